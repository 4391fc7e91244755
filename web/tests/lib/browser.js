import { once } from 'node:events'
import { accessSync, constants, createReadStream } from 'node:fs'
import { createServer } from 'node:http'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'

/** A real browser without a window. */
export function startBrowser() {
  return chromium.launch({ executablePath: chromiumPath(), args: ['--no-sandbox'] })
}

/** Where scripts/ensure looks as well. */
function chromiumPath() {
  const candidates = ['chromium', 'chromium-browser', 'google-chrome']
    .flatMap((name) => process.env.PATH.split(delimiter).map((folder) => join(folder, name)))
    .concat('/Applications/Chromium.app/Contents/MacOS/Chromium')
  const found = candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
  if (!found) throw new Error('there is no Chromium: scripts/ensure chromium installs it')
  return found
}

/**
 * A web server with an empty page; its origin differs by the host's name that it is called by. Beside it are the modules
 * of a folder, if there is one.
 */
export async function startPage(folder) {
  const server = createServer((request, response) => {
    const module = /^\/[a-z/.-]+\.js$/.test(request.url) && folder && new URL(`.${request.url}`, folder)
    if (!module) return response.setHeader('Content-Type', 'text/html').end('<!DOCTYPE html><title>page</title>')
    response.setHeader('Content-Type', 'text/javascript')
    createReadStream(module).on('error', () => response.writeHead(404).end()).pipe(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    origin: (host) => `http://${host}:${server.address().port}`,
    async stop() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
