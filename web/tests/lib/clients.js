// Two clients as anybody could write them. Each keeps what it received in an
// inbox and comes back by itself with the last id it has seen.
import { EventSource } from 'eventsource'
import { WebSocket } from 'ws'
import { Inbox } from './inbox.js'

/** The npm package eventsource, as it is: it alone decides when to come back. */
export async function followEvents(url, token, types) {
  const inbox = new Inbox()
  const source = new EventSource(`${url}/v1/stream`, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
  })
  for (const type of types) source.addEventListener(type, (event) => inbox.add(event.data))
  await new Promise((resolve) => source.addEventListener('tailroom.live', resolve, { once: true }))
  return { inbox, stop: () => source.close() }
}

/** A client of the subprotocol tailroom.v1, as small as it can be. */
export async function followSocket(url, token, namespaces) {
  const inbox = new Inbox()
  const pause = 100
  let cursor = 'now'
  let stopped = false
  let socket
  let live
  const firstLive = new Promise((resolve) => { live = resolve })

  const connect = () => {
    socket = new WebSocket(`${url.replace('http', 'ws')}/v1/ws`, 'tailroom.v1')
    socket.on('open', () => {
      const subscribe = namespaces.map((namespace) => ({ namespace }))
      socket.send(JSON.stringify({ type: 'hello', token, cursor, subscribe }))
    })
    socket.on('message', (text) => {
      const message = JSON.parse(text)
      if (message.type === 'events') for (const event of message.events) inbox.add(JSON.stringify(event))
      if (message.type === 'live') live()
      if (message.cursor) cursor = message.cursor
    })
    socket.on('error', () => {}) // close follows
    socket.on('close', () => { if (!stopped) setTimeout(connect, pause) })
  }
  connect()
  await firstLive
  return {
    inbox,
    stop() {
      stopped = true
      socket.terminate()
    },
  }
}
