import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/**
 * A line is the network between one client and the instances: plain TCP that
 * leads to one of them, or to none. The client knows only the line's address.
 */
export async function startLine(url) {
  let target = new URL(url)
  let sound = 'clear' // or muted, or frozen: what becomes of a new connection's bytes
  const sockets = new Set()
  const upstreams = new WeakSet()
  const abandoned = new WeakSet()
  const track = (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {}) // cut on purpose
  }
  const server = createServer((client) => {
    if (!target) return client.destroy()
    track(client)
    if (sound === 'frozen') return client.pause()
    const upstream = connect(Number(target.port), target.hostname)
    track(upstream)
    upstreams.add(upstream)
    client.pipe(upstream)
    if (sound === 'muted') upstream.resume()
    else upstream.pipe(client)
    client.on('close', () => { if (!abandoned.has(upstream)) upstream.destroy() })
    upstream.on('close', () => client.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  /** Breaks what is connected; nobody answers until the line leads somewhere again. */
  const cut = () => {
    target = undefined
    for (const socket of sockets) socket.destroy()
  }
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut,
    /** What the client says arrives; of the answers not a byte comes back, until the line leads somewhere again. */
    mute() {
      sound = 'muted'
      for (const socket of sockets) if (upstreams.has(socket)) socket.unpipe().resume()
    },
    /** What is connected stays so, and not a byte comes through any more; nor does one of what connects until the line leads somewhere again. */
    freeze() {
      sound = 'frozen'
      for (const socket of sockets) socket.unpipe().pause()
    },
    /** As if it were cut, but the instance does not learn of it, and what it says is lost. */
    abandon() {
      target = undefined
      for (const socket of sockets) {
        if (upstreams.has(socket)) abandoned.add(socket.unpipe().resume())
        else socket.unpipe().destroy()
      }
    },
    leadTo(other) {
      target = new URL(other)
      sound = 'clear'
    },
    async stop() {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}
