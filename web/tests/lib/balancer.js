import { once } from 'node:events'
import { createServer, request as forward } from 'node:http'

/**
 * A balancer without sticky sessions, as strict as one can be: each request and each upgrade goes to the next instance in
 * turn, whoever sends it. What is not there answers 502. If it is told to lose an answer, it repeats the GET at the next
 * instance, as nginx does when one dies before it has answered.
 */
export async function startBalancer(...urls) {
  let targets = urls
  let turn = 0
  /** The query's sid and the instance of all that came, in order. */
  const seen = []
  let losing
  const pass = (request, kind) => {
    const url = new URL(request.url, targets[turn++ % targets.length])
    seen.push({ kind, sid: url.searchParams.get('sid'), instance: url.origin })
    return forward(url, { method: request.method, headers: request.headers, agent: false })
  }
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    const send = () => {
      const onward = pass(request, request.method)
      onward.on('response', async (answer) => {
        answer.on('error', () => response.destroy())
        if (losing && request.method === 'GET') {
          const body = Buffer.concat(await answer.toArray())
          if (body.includes(losing.text)) {
            losing.resolve()
            losing = undefined
            send().end()
            return
          }
          response.writeHead(answer.statusCode, answer.headers).end(body)
          return
        }
        response.writeHead(answer.statusCode, answer.headers)
        answer.pipe(response)
      })
      onward.on('error', () => response.headersSent ? response.destroy() : response.writeHead(502).end())
      response.on('close', () => onward.destroy())
      return onward
    }
    request.pipe(send())
  })
  const tunnels = new Set()
  server.on('upgrade', (request, client, head) => {
    const onward = pass(request, 'upgrade')
    tunnels.add(client)
    client.on('error', () => {}).on('close', () => {
      tunnels.delete(client)
      onward.destroy()
    })
    const answerWith = (answer) => {
      const headers = answer.rawHeaders.map((part, i) => part + (i % 2 ? '\r\n' : ': ')).join('')
      client.write(`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n${headers}\r\n`)
    }
    onward.on('upgrade', (answer, upstream, first) => {
      answerWith(answer)
      client.write(first)
      upstream.write(head)
      client.pipe(upstream).pipe(client)
      client.on('close', () => upstream.destroy())
      upstream.on('error', () => {}).on('close', () => client.destroy())
    })
    onward.on('response', (answer) => {
      answerWith(answer)
      answer.pipe(client)
    })
    onward.on('error', () => client.end('HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n'))
    onward.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    seen,
    /** From now on these are the instances. */
    leadTo(...others) {
      targets = others
    },
    /** Loses the next answer to a GET that has this text, and resolves when it has. */
    lose(text) {
      return new Promise((resolve) => {
        losing = { text, resolve }
      })
    },
    async stop() {
      server.closeAllConnections()
      for (const client of tunnels) client.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
