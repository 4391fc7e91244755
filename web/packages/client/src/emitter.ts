// Publishes over HTTP with the words of a Socket.IO server, for Node backends
// whose gateways and emitters move here line by line.
import type { Catalog } from './default-catalog.js'
import { TailroomError } from './errors.js'
import { Http, networkError, type Token } from './http.js'
import type { Draft, Problem, Receipt } from './protocol.js'
import { withRetry } from './retry.js'
import type { CatalogShape, NamespaceOf } from './types.js'
import { uuid } from './uuid.js'

export type { Catalog } from './default-catalog.js'
export { TailroomError } from './errors.js'
export type { Receipt } from './protocol.js'

export interface EmitterOptions {
  /** The server's address: `https://tailroom.example.com`. */
  url: string
  /** A token of the role `service`, or how to get one. It is asked again when it has expired. */
  token: Token
  /** The company, for a token that is good for all of them. */
  companyId?: string
  /** For how long an emit is tried again, in milliseconds: 30,000 by default. */
  retryForMs?: number
}

/** What an event says besides its type and data. */
export type EmitOptions = Pick<Draft,
  'id' | 'stream' | 'expectedVersion' | 'correlationId' | 'causationId' | 'occurredAt' | 'replyBy' | 'companyId'>

/** So many events go in one request. */
const maxLines = 500

interface Waiting {
  line: string
  resolve(receipt: Receipt): void
  reject(error: unknown): void
}

type Verdict = { line: number; status: number; events?: Receipt[] } & Partial<Problem>

/**
 * Emits events in the order of the calls: while a request is under way, what
 * comes meanwhile is collected for the next one. Each event is a group of its own.
 */
export class Emitter<C extends CatalogShape<C> = Catalog> {
  readonly #http: Http
  readonly #companyId: string | undefined
  readonly #retryForMs: number
  #waiting: Waiting[] = []
  #sending: Promise<void> | undefined

  constructor(options: EmitterOptions) {
    this.#http = new Http(options)
    this.#companyId = options.companyId
    this.#retryForMs = options.retryForMs ?? 30_000
  }

  /** The events of a namespace. */
  of<N extends NamespaceOf<C>>(namespace: N): NamespaceEmitter<C, N> {
    return new NamespaceEmitter((draft) => this.#publish(draft), namespace, [])
  }

  /** Resolves when everything that was emitted has its answer. */
  async flush(): Promise<void> {
    await this.#sending
  }

  #publish(draft: Draft): Promise<Receipt> {
    const company = this.#companyId === undefined ? {} : { companyId: this.#companyId }
    const line = JSON.stringify({ id: uuid(), ...company, ...draft })
    return new Promise((resolve, reject) => {
      this.#waiting.push({ line, resolve, reject })
      this.#sending ??= this.#run()
    })
  }

  async #run(): Promise<void> {
    await undefined // what is emitted in one go goes in one request
    while (this.#waiting.length > 0) await this.#send(this.#waiting.splice(0, maxLines))
    this.#sending = undefined
  }

  /** Sends events until each has its answer; those that may be tried again are, in their order. */
  async #send(batch: Waiting[]): Promise<void> {
    const deadline = AbortSignal.timeout(this.#retryForMs)
    let last: unknown
    try {
      await withRetry(() => this.#post(batch, deadline).catch((error: unknown) => {
        if (!deadline.aborted) last = error
        throw error
      }), deadline)
    } catch (error) {
      for (const { reject } of batch) reject(deadline.aborted ? last ?? error : error)
    }
  }

  /** Asks once, and takes out of the batch what is answered. If some is left, it fails with the error that lets it try again. */
  async #post(batch: Waiting[], signal: AbortSignal): Promise<void> {
    const response = await this.#http.send('/v1/events', {
      method: 'POST', body: batch.map(({ line }) => line).join('\n'), headers: { 'Content-Type': 'application/x-ndjson' }, signal,
    })
    const text = await response.text().catch((cause: unknown) => { throw networkError(cause) })
    const verdicts = new Map<number, Verdict>()
    for (const line of text.split('\n')) {
      if (line === '') continue
      const verdict = JSON.parse(line) as Verdict
      verdicts.set(verdict.line, verdict)
    }
    let reason: TailroomError | undefined
    const left = batch.filter((waiting, i) => {
      const verdict = verdicts.get(i + 1)
      const receipt = verdict?.events?.[0]
      if (receipt) {
        waiting.resolve(receipt)
        return false
      }
      const error = verdict ? new TailroomError(verdict as Problem, { status: verdict.status }) : networkError(undefined)
      if (error.retriable) reason = error
      else waiting.reject(error)
      return error.retriable
    })
    batch.splice(0, batch.length, ...left)
    if (reason) throw reason
  }
}

/** A namespace, with the rooms that were named. */
export class NamespaceEmitter<C extends CatalogShape<C>, N extends NamespaceOf<C>> {
  readonly #publish: (draft: Draft) => Promise<Receipt>
  readonly #namespace: N
  readonly #rooms: string[]

  constructor(publish: (draft: Draft) => Promise<Receipt>, namespace: N, rooms: string[]) {
    this.#publish = publish
    this.#namespace = namespace
    this.#rooms = rooms
  }

  /** To a room as well: `branch:7`, or `branch_7` as it was. Without any, the event goes where its type belongs. */
  to(room: string | readonly string[]): NamespaceEmitter<C, N> {
    return new NamespaceEmitter(this.#publish, this.#namespace, [...this.#rooms, ...(typeof room === 'string' ? [room] : room)])
  }

  /** The same as `to`. */
  in(room: string | readonly string[]): NamespaceEmitter<C, N> {
    return this.to(room)
  }

  /** Resolves when the event is durable, and rejects with a TailroomError when it was refused. */
  emit<T extends keyof C[N] & string>(
    type: T, data: C[N][T] extends { data: infer Data } ? Data : never, options: EmitOptions = {},
  ): Promise<Receipt> {
    const rooms = this.#rooms.length === 0 ? {} : { rooms: this.#rooms }
    return this.#publish({ namespace: this.#namespace, type, data: data as Record<string, unknown>, ...rooms, ...options })
  }
}
