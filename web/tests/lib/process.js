// What the tests start: a Postgres of their own, and real instances on it.
// Everything ends with stop(), or with this process.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { secret } from './token.js'

const root = fileURLToPath(new URL('../../..', import.meta.url))

/** A fresh, empty database. Its server stops when its standard input closes. */
export async function startPostgres() {
  const child = spawn('go', ['run', './internal/pgtest/pgserve'], { cwd: root, stdio: ['pipe', 'pipe', 'inherit'] })
  const dsn = await firstLine(child, child.stdout, (line) => line)
  return {
    dsn,
    async stop() {
      child.stdin.end()
      await exited(child)
    },
  }
}

/** An instance of bin/tailroom on a free port, with these settings besides. */
export async function startInstance(dsn, name, settings = {}) {
  const child = spawn('bin/tailroom', ['serve'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: dsn,
      JWT_SECRET: secret,
      PORT: '0',
      INSTANCE_ID: name,
      TAILROOM_HOST: '127.0.0.1',
      TAILROOM_DRAIN_TIMEOUT: '1s',
      ...settings,
    },
  })
  process.once('exit', () => child.kill())
  const url = await firstLine(child, child.stderr, (line) => {
    const entry = JSON.parse(line)
    return entry.msg === 'serving' ? entry.url : undefined
  })
  return {
    url,
    async stop() {
      child.kill('SIGTERM')
      await exited(child)
    },
    /** Ends it without a word to anybody, unless it has ended. */
    async kill() {
      if (!child.kill('SIGKILL')) return
      await once(child, 'exit')
    },
  }
}

/** The first line that pick makes something of. Reading goes on, lest the pipe fill. */
function firstLine(child, stream, pick) {
  return new Promise((resolve, reject) => {
    const lines = []
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      const picked = pick(line)
      if (picked !== undefined) resolve(picked)
    })
    child.on('error', reject)
    child.on('exit', (code) => reject(new Error(`${child.spawnargs.join(' ')} ended with ${code}:\n${lines.join('\n')}`)))
  })
}

async function exited(child) {
  const [code] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode]
  if (code !== 0) throw new Error(`${child.spawnargs.join(' ')} ended with ${code}`)
}
