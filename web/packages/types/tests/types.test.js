// What tsc thinks of code that uses the types: examples that must compile, and examples that must not.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { generate } from '../dist/generate.js'

const path = (name) => fileURLToPath(new URL(name, import.meta.url))

/** Runs a script of the workspace. */
function run(script, ...args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8', cwd: path('.') })
  return { status, stdout, stderr }
}

const tsc = fileURLToPath(import.meta.resolve('typescript/package.json')).replace('package.json', 'bin/tsc')

test('examples compile, and mistakes do not', (t) => {
  const generated = run(path('../dist/cli.js'), '--file', path('fixtures/catalog.json'))
  assert.equal(generated.status, 0, generated.stderr)
  writeFileSync(path('fixtures/catalog.d.ts'), generated.stdout)
  t.after(() => rmSync(path('fixtures/catalog.d.ts')))

  const expected = readFileSync(path('fixtures/fail.ts'), 'utf8').split('\n')
    .flatMap((line, i) => [...line.matchAll(/ \/\/ error (TS\d+)/g)].map(([, code]) => `fail.ts:${i + 1} ${code}`))
  const { stdout } = run(tsc, '-p', path('fixtures'), '--pretty', 'false')
  const found = [...stdout.matchAll(/^.*?([a-z]+\.ts)\((\d+),\d+\): error (TS\d+)/gm)].map(([, file, line, code]) => `${file}:${line} ${code}`)
  assert.ok(expected.length > 15)
  assert.deepEqual([...new Set(found)], expected, stdout)
})

const catalog = (events, name = '/orders') => ({ namespaces: [{ name, events: events.map((event) => ({ schemaVersion: 1, ...event })) }] })

test('descriptions are comments, and what a schema leaves open is open', async () => {
  const text = await generate(catalog([
    { type: 'order:placed', schemaVersion: 3, description: 'Placed */ at last.', reply: { type: 'done' },
      schema: { type: 'object', required: ['id'], properties: { id: { type: 'integer', description: 'Its number.' } } } },
    { type: 'done' },
    { type: 'open', schema: { type: 'object', additionalProperties: { type: 'number' } } },
  ]))
  assert.match(text, /\/\*\*\n \* Placed \*\/?.* at last\.\n \*\/\nexport interface OrderPlaced {\n {2}\/\*\*\n {3}\* Its number\.\n {3}\*\/\n {2}id: number\n}/)
  assert.match(text, /"order:placed": { data: OrderPlaced; schemaVersion: 3; reply: "done" }/)
  assert.match(text, /export interface Done {\n {2}\[k: string\]: unknown/)
  assert.match(text, /export interface Open {\n {2}\[k: string\]: number/)
})

test('names that would collide have their namespace in front', async () => {
  const { namespaces } = catalog([{ type: 'changed' }, { type: 'catalog' }])
  const text = await generate({ namespaces: [...namespaces, ...catalog([{ type: 'changed' }], '/stock').namespaces] })
  for (const name of ['OrdersChanged', 'StockChanged', 'OrdersCatalog']) assert.match(text, new RegExp(`export interface ${name} `))
})

test('the command says what it wants', () => {
  const cli = path('../dist/cli.js')
  assert.match(run(cli).stderr, /give --url or --file/)
  assert.match(run(cli, '--url', 'http://127.0.0.1:9').stderr, /TAILROOM_TOKEN/)
  assert.match(run(cli, '--file', path('fixtures/tsconfig.json')).stderr, /holds no catalogue/)
  assert.equal(run(cli, '--file', 'nowhere.json').status, 1)
  assert.match(run(cli, '--help').stdout, /tailroom-types --url/)
})

test('the examples in the documents compile', (t) => {
  const documents = ['../../client/README.md', '../README.md', '../../../../docs/clients.md']
  const generated = run(path('../dist/cli.js'), '--file', path('fixtures/catalog.json'))
  const folder = path('fixtures/documents/')
  mkdirSync(folder)
  t.after(() => rmSync(folder, { recursive: true }))
  writeFileSync(`${folder}catalog.d.ts`, generated.stdout)
  writeFileSync(`${folder}tsconfig.json`, '{"extends": "../tsconfig.json", "include": ["*.ts"]}')
  const blocks = documents.flatMap((document) => [...readFileSync(path(document), 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)])
  for (const [i, [, code]] of blocks.entries()) writeFileSync(`${folder}example-${i}.ts`, `${code}\nexport {}\n`)
  assert.ok(blocks.length >= 7)
  const { status, stdout } = run(tsc, '-p', folder, '--pretty', 'false')
  assert.equal(status, 0, stdout)
})
