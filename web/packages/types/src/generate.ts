// A catalogue, as GET /v1/catalog answers it, as TypeScript.
import { compile, type JSONSchema } from 'json-schema-to-typescript'

export interface Catalog {
  namespaces: {
    name: string
    description?: string
    events: {
      type: string
      schemaVersion: number
      description?: string
      schema?: Record<string, unknown> | null
      reply?: { type: string } | null
    }[]
  }[]
}

/** The types of every event's data, the catalogue for `connect<Catalog>`, and the events of Socket.IO. */
export async function generate({ namespaces }: Catalog): Promise<string> {
  const names = dataNames({ namespaces })
  const interfaces: string[] = []
  const entries: string[] = []
  for (const { name: namespace, description, events } of namespaces) {
    const types: string[] = []
    for (const event of events) {
      const data = names.get(`${namespace} ${event.type}`)!
      interfaces.push(await dataType(data, event))
      const reply = event.reply ? `; reply: ${JSON.stringify(event.reply.type)}` : ''
      types.push(`${comment(event.description, '    ')}    ${JSON.stringify(event.type)}: { data: ${data}; schemaVersion: ${event.schemaVersion}${reply} }\n`)
    }
    entries.push(`${comment(description, '  ')}  ${JSON.stringify(namespace)}: {\n${types.join('')}  }\n`)
  }
  return [header, ...interfaces, `/** The event types, by namespace. */\nexport interface Catalog {\n${entries.join('')}}\n`, socketIO].join('\n')
}

const header = `/* Made by tailroom-types from the catalogue of a Tailroom server. Do not edit: make it again. */
`

const socketIO = `/** What a namespace's Socket.IO socket hears: \`Socket<ServerToClientEvents<'/orders'>, ClientToServerEvents<'/orders'>>\`. */
export type ServerToClientEvents<N extends keyof Catalog> = {
  [T in keyof Catalog[N]]: Catalog[N][T] extends { data: infer Data } ? (data: Data) => void : never
}

/** What it says. The acknowledgement comes when the event is in the log, or when its reply is there if the type waits for it. */
export type ClientToServerEvents<N extends keyof Catalog> = {
  [T in keyof Catalog[N]]: Catalog[N][T] extends { data: infer Data } ? (data: Data, acknowledge?: (answer: unknown) => void) => void : never
}
`

/** A name for the data of each type: its own, and its namespace's in front where two have the same. */
function dataNames({ namespaces }: Catalog): Map<string, string> {
  const all = namespaces.flatMap(({ name, events }) => events.map(({ type }) => ({ namespace: name, type })))
  const taken = new Map<string, number>()
  for (const { type } of all) taken.set(pascal(type), (taken.get(pascal(type)) ?? 0) + 1)
  const reserved = new Set(['Catalog', 'ServerToClientEvents', 'ClientToServerEvents'])
  return new Map(all.map(({ namespace, type }) => {
    const name = pascal(type)
    const unique = taken.get(name) === 1 && !reserved.has(name) ? name : pascal(namespace) + name
    return [`${namespace} ${type}`, unique]
  }))
}

function pascal(text: string): string {
  const words = text.split(/[^A-Za-z0-9]+/).filter((word) => word !== '')
  const name = words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join('')
  return /^[0-9]/.test(name) ? `Event${name}` : name
}

/** Closed where the schema does not say `additionalProperties`: types are there to find slips of the pen. */
async function dataType(name: string, { description, schema }: Catalog['namespaces'][number]['events'][number]): Promise<string> {
  const { title: _, $id: __, ...rest } = schema ?? { type: 'object', additionalProperties: true }
  const described = { ...(description === undefined ? {} : { description }), ...rest }
  return compile(described as JSONSchema, name, {
    bannerComment: '', additionalProperties: false, declareExternallyReferenced: true, strictIndexSignatures: true,
    style: { semi: false, singleQuote: true, printWidth: 120 },
  })
}

function comment(text: string | undefined, indent: string): string {
  return text === undefined || text === '' ? '' : `${indent}/** ${text.trim().replaceAll('*/', '*\\/').replaceAll(/\s*\n\s*/g, ' ')} */\n`
}
