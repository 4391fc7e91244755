// Publishes over HTTP with the words of a Socket.IO server, for Node backends
// whose gateways and emitters move here line by line.
import type { Catalog } from './default-catalog.js'
import { TailroomError } from './errors.js'
import { Http, type Token } from './http.js'
import type { Draft, Receipt } from './protocol.js'
import { pause, withRetry } from './retry.js'
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
const maxEvents = 500

interface Waiting {
  /** As JSON. */
  event: string
  resolve(receipt: Receipt): void
  reject(error: unknown): void
}

/**
 * Emits the events of a company in the order of the calls: while a request is
 * under way, what comes meanwhile is collected for the next one. A request is one
 * group, whole or not at all: no event gets ahead of one that the server takes
 * later. An event that is refused is refused alone, because a refused group is sent
 * in halves. Companies do not wait for each other.
 */
export class Emitter<C extends CatalogShape<C> = Catalog> {
  readonly #http: Http
  readonly #companyId: string | undefined
  readonly #retryForMs: number
  /** By company; who is here has a request under way. */
  readonly #lines = new Map<string, { waiting: Waiting[]; sending: Promise<void> }>()

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
    await Promise.all(Array.from(this.#lines.values(), ({ sending }) => sending))
  }

  #publish(draft: Draft): Promise<Receipt> {
    const companyId = draft.companyId ?? this.#companyId
    const event = JSON.stringify({ id: uuid(), ...draft, companyId })
    return new Promise((resolve, reject) => {
      const waiting = { event, resolve, reject }
      const line = this.#lines.get(companyId ?? '')
      if (line) line.waiting.push(waiting)
      else this.#begin(companyId ?? '', [waiting])
    })
  }

  #begin(company: string, waiting: Waiting[]): void {
    this.#lines.set(company, { waiting, sending: this.#run(company, waiting) })
  }

  async #run(company: string, waiting: Waiting[]): Promise<void> {
    await undefined // what is emitted in one go goes in one request
    while (waiting.length > 0) await this.#send(waiting.splice(0, maxEvents), AbortSignal.timeout(this.#retryForMs))
    this.#lines.delete(company)
  }

  /** Sends events until each has its answer. A group that fails for the moment is tried again before anything behind it is sent. */
  async #send(batch: Waiting[], deadline: AbortSignal): Promise<void> {
    const several = batch.length > 1
    let last: unknown
    try {
      const receipts = await withRetry(() => this.#post(batch, deadline).catch(async (error: unknown) => {
        if (!deadline.aborted) last = error
        if (!several || !(error instanceof TailroomError) || error.code !== 'rate_limited') throw error
        await pause(error.retryAfterMs ?? 1_000, deadline)
        return undefined // fewer may pass
      }), deadline)
      if (receipts) return batch.forEach(({ resolve }, i) => resolve(receipts[i]!))
    } catch (error) {
      const all = !(error instanceof TailroomError) || error.status === 401 // nothing is wrong with one of them
      if (all || deadline.aborted || !several) return batch.forEach(({ reject }) => reject(deadline.aborted ? last ?? error : error))
    }
    const half = Math.ceil(batch.length / 2)
    await this.#send(batch.slice(0, half), deadline)
    await this.#send(batch.slice(half), deadline)
  }

  async #post(batch: Waiting[], signal: AbortSignal): Promise<Receipt[]> {
    const { events } = await this.#http.json('/v1/events', {
      method: 'POST', body: `[${batch.map(({ event }) => event).join()}]`, headers: { 'Content-Type': 'application/json' }, signal,
    }) as { events: Receipt[] }
    return events
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
