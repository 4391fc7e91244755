import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/**
 * A line is the network between one client and the instances: plain TCP that
 * leads to one of them, or to none. The client knows only the line's address.
 */
export async function startLine(url) {
  let target = new URL(url)
  const sockets = new Set()
  const upstreams = new WeakSet()
  const abandoned = new WeakSet()
  const track = (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {}) // cut on purpose
  }
  const server = createServer((client) => {
    if (!target) return client.destroy()
    const upstream = connect(Number(target.port), target.hostname)
    track(client)
    track(upstream)
    upstreams.add(upstream)
    client.pipe(upstream).pipe(client)
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
    /** What the client says arrives; of the answers not a byte comes back. */
    mute() {
      for (const socket of sockets) if (upstreams.has(socket)) socket.unpipe().resume()
    },
    /** What is connected stays so, and not a byte comes through any more. */
    freeze() {
      for (const socket of sockets) socket.unpipe().pause()
    },
    /** The client loses what is connected; the instance does not learn of it, and what it says is lost. */
    abandon() {
      for (const socket of sockets) {
        if (upstreams.has(socket)) abandoned.add(socket.unpipe().resume())
        else socket.unpipe().destroy()
      }
    },
    leadTo(other) {
      target = new URL(other)
    },
    async stop() {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}
