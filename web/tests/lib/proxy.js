import { once } from 'node:events'
import { createServer, request as forward } from 'node:http'

/**
 * An HTTP proxy of the kind that stands between offices and the internet: it
 * passes requests on and lets no WebSocket through.
 *
 * @param meddle may answer a request in its own way: it gets the request, the
 * response and a function that passes the request on and resolves when that is answered.
 */
export async function startProxy(url, meddle = (request, response, pass) => pass()) {
  const seen = { requests: [], upgrades: 0 }
  const server = createServer((request, response) => {
    seen.requests.push(`${request.method} ${request.url.split('?')[0]}`)
    const pass = (to = response) => new Promise((resolve) => {
      const onward = forward(url + request.url, { method: request.method, headers: request.headers }, (answer) => {
        if (to) {
          to.writeHead(answer.statusCode, answer.headers)
          answer.pipe(to)
        } else {
          answer.resume()
        }
        answer.on('end', resolve).on('error', resolve)
      })
      onward.on('error', () => response.destroy())
      response.on('close', () => onward.destroy())
      request.pipe(onward)
    })
    meddle(request, response, pass)
  })
  server.on('upgrade', (request, socket) => {
    seen.upgrades++
    socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    seen,
    async stop() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
