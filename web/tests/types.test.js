// The types that ship with the client, and those that the generator is tested
// with, are those of the catalogue that is built into the server.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startInstance, startPostgres } from './lib/process.js'
import { mint } from './lib/token.js'

const path = (name) => fileURLToPath(new URL(`../packages/${name}`, import.meta.url))
const shipped = path('client/src/default-catalog.ts')
const fixture = path('types/tests/fixtures/catalog.json')
const token = mint({ companyId: 'c1', userRole: 'web' })

let postgres, instance
before(async () => {
  postgres = await startPostgres()
  instance = await startInstance(postgres.dsn, 'one')
})
after(async () => {
  await instance?.stop()
  await postgres?.stop()
})

test('the shipped types are not stale', { timeout: 60_000 }, async () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [path('types/dist/cli.js'), '--url', instance.url],
    { encoding: 'utf8', env: { ...process.env, TAILROOM_TOKEN: token } })
  assert.equal(status, 0, stderr)
  const response = await fetch(`${instance.url}/v1/catalog`, { headers: { Authorization: `Bearer ${token}` } })
  const catalog = `${JSON.stringify(await response.json(), undefined, 1)}\n`
  if (process.env.UPDATE_TYPES) {
    writeFileSync(shipped, stdout)
    writeFileSync(fixture, catalog)
  }
  const advice = 'the catalogue has changed: run UPDATE_TYPES=1 node --test types.test.js in web/tests, and build the client anew'
  assert.equal(readFileSync(shipped, 'utf8'), stdout, advice)
  assert.equal(readFileSync(fixture, 'utf8'), catalog, advice)
})
