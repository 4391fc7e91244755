#!/usr/bin/env node
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { generate, type Catalog } from './generate.js'

const usage = `Writes the TypeScript types of a Tailroom catalogue to standard output.

  TAILROOM_TOKEN=… tailroom-types --url https://tailroom.example.com > tailroom.d.ts
  tailroom-types --file catalog.json > tailroom.d.ts

The file holds what GET /v1/catalog answers. Any token that is valid will do.
`

/** The catalogue that the arguments mean. */
async function load({ url, file }: { url?: string | undefined; file?: string | undefined }): Promise<Catalog> {
  if (file !== undefined && url === undefined) return parse(await readFile(file, 'utf8'), file)
  if (url === undefined || file !== undefined) throw new Error(`give --url or --file\n\n${usage}`)
  const token = process.env['TAILROOM_TOKEN']
  if (!token) throw new Error('--url needs a token in TAILROOM_TOKEN; any valid one will do')
  const response = await fetch(`${url.replace(/\/+$/, '')}/v1/catalog`, { headers: { Authorization: `Bearer ${token}` } })
  const text = await response.text()
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text}`)
  return parse(text, url)
}

function parse(text: string, source: string): Catalog {
  const catalog: unknown = JSON.parse(text)
  if (typeof catalog !== 'object' || catalog === null || !('namespaces' in catalog)) {
    throw new Error(`${source} holds no catalogue: it is what GET /v1/catalog answers, {"namespaces":[…]}`)
  }
  return catalog as Catalog
}

try {
  const { values } = parseArgs({ options: { url: { type: 'string' }, file: { type: 'string' }, help: { type: 'boolean' } } })
  process.stdout.write(values.help ? usage : await generate(await load(values)))
} catch (error) {
  process.stderr.write(`tailroom-types: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
