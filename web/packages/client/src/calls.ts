// What the client asks of the server and waits for: publishes and requests.
// Each has an id of its own, so it is asked again, without harm, until there is
// an answer: on every new WebSocket, or over HTTP while events come by SSE.
import { TailroomError } from './errors.js'
import { aborted, type Http } from './http.js'
import type { ReplyMessage } from './protocol.js'
import { backoff, withRetry } from './retry.js'

/** So many calls may wait for an answer, or for a connection. */
export const maxPending = 1_000

type Answer = Extract<ReplyMessage, { ok: true }>

interface Call {
  ref: number
  kind: 'publish' | 'request'
  body: object
  tries: number
  overHttp: boolean
  abort: AbortController
  resolve(answer: Answer): void
  reject(error: unknown): void
}

export class Calls {
  readonly #http: Http
  readonly #pending = new Map<number, Call>()
  #refs = 0
  #send: ((message: object) => void) | undefined
  #oneWay = false
  /** Publishes over HTTP go one after the other, which keeps their order. */
  #turn: Promise<unknown> = Promise.resolve()
  #ended: TailroomError | undefined

  constructor(http: Http) {
    this.#http = http
  }

  ask(kind: Call['kind'], body: object, signal?: AbortSignal): Promise<Answer> {
    if (this.#ended) return Promise.reject(this.#ended)
    if (signal?.aborted) return Promise.reject(aborted(signal))
    if (this.#pending.size >= maxPending) {
      return Promise.reject(new TailroomError({ code: 'too_many_pending', message: `${maxPending} calls wait for an answer already` }))
    }
    return new Promise((resolve, reject) => {
      const ref = ++this.#refs
      const give = () => this.#settle(call)?.reject(aborted(signal!))
      const done = () => signal?.removeEventListener('abort', give)
      const call: Call = {
        ref, kind, body, tries: 0, overHttp: false, abort: new AbortController(),
        resolve: (answer) => { done(); resolve(answer) },
        reject: (error) => { done(); reject(error) },
      }
      signal?.addEventListener('abort', give, { once: true })
      this.#pending.set(ref, call)
      this.#try(call)
    })
  }

  /** There is a WebSocket: everything without an answer is asked on it. */
  connected(send: (message: object) => void): void {
    this.#send = send
    this.#oneWay = false
    for (const call of this.#pending.values()) this.#try(call)
  }

  /** Events come by SSE: everything without an answer goes over HTTP. */
  connectedOneWay(): void {
    this.#oneWay = true
    for (const call of this.#pending.values()) this.#try(call)
  }

  disconnected(): void {
    this.#send = undefined
    this.#oneWay = false
  }

  reply(message: ReplyMessage | ({ type: 'error'; ref?: number | string; code: string; message: string })): void {
    const call = typeof message.ref === 'number' ? this.#pending.get(message.ref) : undefined
    if (!call) return
    if (message.type === 'reply' && message.ok) return this.#settle(call)?.resolve(message)
    const error = new TailroomError(message as { code: string; message: string })
    if (!error.retriable) return this.#settle(call)?.reject(error)
    const wait = (error.retryAfterMs ?? 0) + Math.random() * backoff(call.tries++)
    const send = this.#send
    setTimeout(() => { if (send === this.#send) this.#try(call) }, wait)
  }

  /**
   * The connection was closed for a message that was too large: those above the limit fail, because they would cost the
   * next one as well. Whoever closed it may not say what it takes: then it was the largest.
   */
  tooLarge(error: TailroomError): void {
    const sent = [...this.#pending.values()].filter(({ overHttp }) => !overHttp)
    const sizes = new Map(sent.map((call) => [call, size(call)]))
    const { limit = Math.max(...sizes.values()) - 1 } = error.details as { limit?: number }
    for (const [call, bytes] of sizes) if (bytes > limit) this.#settle(call)?.reject(error)
  }

  /** Whatever is still open fails, and so does what comes. */
  end(error: TailroomError): void {
    this.#ended = error
    for (const call of [...this.#pending.values()]) this.#settle(call)?.reject(error)
  }

  #try(call: Call): void {
    if (!this.#pending.has(call.ref) || call.overHttp) return
    if (this.#send) return this.#send(message(call))
    if (!this.#oneWay) return
    call.overHttp = true
    const asked = call.kind === 'publish' ? this.#inTurn(() => this.#post(call)) : this.#post(call)
    asked.then(
      (answer) => this.#settle(call)?.resolve(answer),
      (error: unknown) => this.#settle(call)?.reject(error))
  }

  #post({ kind, body, abort: { signal } }: Call): Promise<Answer> {
    const [path, content] = kind === 'publish' ? ['/v1/events', (body as { events: object[] }).events] : ['/v1/requests', body]
    return withRetry(() => this.#http.json(path, {
      method: 'POST', body: JSON.stringify(content), headers: { 'Content-Type': 'application/json' }, signal,
    }), signal) as Promise<Answer>
  }

  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }

  /** Takes the call out; whoever gets it has to answer it. */
  #settle(call: Call): Call | undefined {
    if (!this.#pending.delete(call.ref)) return undefined
    call.abort.abort()
    return call
  }
}

/** In bytes. */
function size(call: Call): number {
  return new TextEncoder().encode(JSON.stringify(message(call))).length
}

/** A call as a message, whose type is the call's: a request's own type stands in `event`. */
function message({ kind, ref, body }: Call): object {
  if (kind === 'publish') return { type: kind, ref, ...body }
  const { type: event, ...rest } = body as { type: string }
  return { type: kind, ref, event, ...rest }
}
