// The snippets of the documents, run as they stand there. Where a library is not
// here, node-postgres is in its place, or its SQL alone is run.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { Emitter } from '@tailroom/client/emitter'
import pg from 'pg'
import { followSocket } from './lib/clients.js'
import { startInstance, startPostgres } from './lib/process.js'
import { mint } from './lib/token.js'

const token = mint({ companyId: 'c1', userRole: 'service' })

let postgres, instance, connection, client
before(async () => {
  postgres = await startPostgres()
  instance = await startInstance(postgres.dsn, 'one')
  connection = new pg.Client({ connectionString: postgres.dsn })
  await connection.connect()
  client = await followSocket(instance.url, token, ['/orders', '/availability', '/printing-ws'])
})
after(async () => {
  client?.stop()
  await connection?.end()
  await instance?.stop()
  await postgres?.stop()
})

/** The snippets of a document in one language. */
function snippets(document, language) {
  const text = readFileSync(new URL(`../../docs/${document}`, import.meta.url), 'utf8')
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([, code]) => code)
}

/** The one snippet that has this word. */
function snippet(document, language, word) {
  const found = snippets(document, language).filter((code) => code.includes(word))
  assert.equal(found.length, 1, `${document} has ${found.length} snippets in ${language} with ${word}`)
  return found[0]
}

/** The types of the events that come while work runs, so many of them. */
async function events(count, work) {
  const seen = client.inbox.received.length
  await work()
  await client.inbox.until(seen + count)
  return client.inbox.received.slice(seen).map((envelope) => JSON.parse(envelope))
}

/** Runs JavaScript with these names. */
function run(code, names) {
  const AsyncFunction = (async () => {}).constructor
  return new AsyncFunction(...Object.keys(names), code)(...Object.values(names))
}

test('backends.md: curl', { timeout: 60_000 }, async () => {
  const scripts = snippets('backends.md', 'sh')
  const outputs = []
  const came = await events(4, async () => {
    for (const script of scripts) {
      const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', script], {
        env: { ...process.env, URL: instance.url, SERVICE: token },
      })
      outputs.push(stdout.trim().split('\n').map((line) => JSON.parse(line)))
    }
  })
  assert.deepEqual(came.map(({ type }) => type), ['newOrder', 'orderStatusUpdate', 'stockAlert', 'printer:test'])
  assert.equal(outputs[0][0].events[0].duplicate, false)
  assert.deepEqual(outputs[1].map(({ status }) => status), [201, 201])
  assert.equal(outputs[2][0].code, 'reply_timeout')
})

test('backends.md: the Emitter, line by line', { timeout: 60_000 }, async () => {
  const [, before] = /\/\/ before\n(.*)\n/.exec(snippet('backends.md', 'js', '// before'))
  const code = snippet('backends.md', 'js', '// after')
  assert.equal(/\/\/ after\nawait (.*)\n/.exec(code)[1], before, 'the line stays')
  const [event] = await events(1, () => run(code.replace(/^import .*$/m, ''), {
    Emitter, process: { env: { TAILROOM_URL: instance.url, TAILROOM_TOKEN: token } }, order: { orderId: 'e-1', branchId: 'b7' },
  }))
  assert.deepEqual([event.type, event.rooms], ['newOrder', ['branch:b7']])
})

const order = { orderId: 'd-1', branchId: 'b7' }
const sql = {
  'publishing-with-sql.md: node-postgres': () => run(snippet('publishing-with-sql.md', 'js', 'client.query'), { client: connection }),
  'publishing-with-sql.md: Prisma': () => run(snippet('publishing-with-sql.md', 'ts', 'prisma.'), {
    order,
    prisma: {
      $transaction: (work) => work({
        order: { create: () => {} },
        $queryRaw: (strings, ...values) => connection.query(strings.reduce((text, part, i) => `${text}$${i}${part}`), values),
      }),
    },
  }),
  'publishing-with-sql.md: TypeORM': () => run(snippet('publishing-with-sql.md', 'ts', 'dataSource'), {
    order, dataSource: { transaction: (work) => work({ save: () => {}, query: (text, values) => connection.query(text, values) }) },
  }),
  'publishing-with-sql.md: the SQL of pgx': () => {
    const [, text] = /`(SELECT [^`]*)`/.exec(snippet('publishing-with-sql.md', 'go', 'tx.Exec'))
    return connection.query(text, ['c1', '/orders', 'newOrder', order])
  },
  'backends.md: the SQL of SQLAlchemy': () => {
    const [, text] = /text\("(.*)"\)/.exec(snippet('backends.md', 'python', 'sqlalchemy'))
    const values = { company: 'c1', data: JSON.stringify(order), rooms: ['branch:b7'] }
    const names = []
    const numbered = text.replaceAll(/:(\w+)/g, (_, name) => `$${names.push(name)}`)
    return connection.query(numbered, names.map((name) => values[name]))
  },
}

for (const [name, publish] of Object.entries(sql)) {
  test(name, { timeout: 60_000 }, async () => {
    const [event] = await events(1, publish)
    assert.deepEqual([event.type, event.rooms, event.companyId], ['newOrder', ['branch:b7'], 'c1'])
  })
}
