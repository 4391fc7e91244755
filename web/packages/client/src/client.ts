import { Calls } from './calls.js'
import { compareCursors, isCursor, type Cursor } from './cursor.js'
import type { Catalog } from './default-catalog.js'
import { Deliveries, type Item } from './deliver.js'
import { TailroomError } from './errors.js'
import { Http } from './http.js'
import { Keeper } from './keeper.js'
import { closeName, initial, noToken, step, tooLarge, type Effect, type Event, type Phase, type State, type TimerName, type TransportName } from './machine.js'
import { findWebSocket, scopeOf, subscriptions, transports, type ConnectOptions } from './options.js'
import type { Draft, Receipt, Reset, ServerMessage, SnapshotPage, Subscription, TailroomEvent } from './protocol.js'
import type { CursorSlot } from './storage/storage.js'
import { sseTransport } from './transport/sse.js'
import type { Line, Listener, Transport } from './transport/transport.js'
import { webSocketTransport } from './transport/websocket.js'
import type { CatalogShape, DraftOf, EventOf, NamespaceOf, ReplyOf, RequestType, TypeOf } from './types.js'
import { uuid } from './uuid.js'

/** How the connection is. */
export interface Status {
  phase: Phase
  transport: TransportName
  /** Why it is not connected: the last failure, or what ended it for good. */
  error: TailroomError | null
}

export type Handler<Value> = (value: Value) => void | Promise<void>

/** A request: an event that wants an answer within a time. */
export interface RequestDraft<N extends string, T extends string, Data> extends Omit<Draft<N, T, Data>, 'replyBy' | 'expectedVersion'> {
  /** How long to wait for the answer; the catalogue's time by default. */
  timeoutMs?: number
}

/** So many items may wait for the application before it is followed no more, and so few before it is again. */
const tooMany = 4096
const fewEnough = 1024

const snapshotRef = 'snapshot'

/** How long acknowledgements are collected, in milliseconds. */
const ackPauseMs = 100

/**
 * Follows the log over one connection that comes back by itself, and publishes
 * over it. Every event is handed on once, in the order of the log; what cannot
 * be is told by a reset.
 */
export function connect<C extends CatalogShape<C> = Catalog>(options: ConnectOptions<NoInfer<C>>): Client<C> {
  return new Client(options)
}

export class Client<C extends CatalogShape<C> = Catalog> {
  readonly #options: ConnectOptions<C>
  readonly #subscribe: Subscription[]
  readonly #transports: Record<TransportName, Transport>
  readonly #http: Http
  readonly #calls: Calls
  readonly #deliveries: Deliveries
  readonly #store: Keeper<Cursor>
  readonly #timers = new Map<TimerName, ReturnType<typeof setTimeout>>()
  readonly #handlers = new Map<string, Set<Handler<any>>>()
  #state: State
  #events: Event[] | undefined
  #line: Line | undefined
  #lineToken: string | undefined
  #slot: CursorSlot | undefined
  #problem: TailroomError | null = null
  #status: Status
  /** The last event that was handed on: no bookmark behind it may be kept before it is done. */
  #last: Cursor | null = null
  #ack: Cursor | undefined
  #ackTimer: ReturnType<typeof setTimeout> | undefined
  #closing: Promise<void> | undefined

  constructor(options: ConnectOptions<C>) {
    const WebSocket = findWebSocket(options)
    this.#options = options
    this.#subscribe = subscriptions(options.subscribe)
    const names = transports(options, WebSocket)
    this.#transports = { sse: sseTransport, websocket: WebSocket ? webSocketTransport(WebSocket) : sseTransport }
    if (options.from !== undefined && options.from !== 'now' && options.from !== 'earliest' && !isCursor(options.from)) {
      throw new TypeError('from is now, earliest, or a cursor such as 1-1042')
    }
    this.#http = new Http(options)
    this.#calls = new Calls(this.#http)
    this.#deliveries = new Deliveries({
      handle: (item) => this.#handle(item),
      handled: (item) => this.#handled(item),
      waiting: (count) => {
        if (count > tooMany) this.#dispatch({ type: 'backlog', full: true })
        else if (count <= fewEnough) this.#dispatch({ type: 'backlog', full: false })
      },
    })
    this.#store = new Keeper((cursor) => this.#save(cursor))
    this.#state = initial({
      transports: names,
      snapshots: this.#subscribe.filter(({ snapshot }) => snapshot).map(({ namespace }) => namespace),
      consumer: options.consumer !== undefined,
    })
    this.#status = this.status
    if (typeof globalThis.addEventListener === 'function') globalThis.addEventListener('online', this.#online)
    void this.#start()
  }

  /** How the connection is at present. */
  get status(): Status {
    const { phase, transport } = this.#state
    return { phase, transport, error: phase === 'live' || phase === 'replaying' ? null : this.#problem }
  }

  /** Up to where everything has been received; null before the first connection. */
  get cursor(): Cursor | null {
    return isCursor(this.#state.cursor) ? this.#state.cursor : null
  }

  /**
   * Handles the events of a type. Handlers run one after the other, and the next event waits for what they promise.
   *
   * @returns a function that takes the handler away.
   */
  on<T extends TypeOf<C>>(type: T, handler: Handler<EventOf<C, T>>): () => void {
    return this.#listen(`event ${type}`, handler)
  }

  /** Handles every event, behind the handlers of its type. */
  onAny(handler: Handler<EventOf<C>>): () => void {
    return this.#listen('any', handler)
  }

  /** Handles the state that was asked for with `snapshot`, page by page. Events behind it follow. */
  onSnapshot(handler: Handler<SnapshotPage>): () => void {
    return this.#listen('snapshot', handler)
  }

  /** Handles the news that events are missing: the log does not reach back to the cursor, or has another past. */
  onReset(handler: Handler<Reset>): () => void {
    return this.#listen('reset', handler)
  }

  /** Tells how the connection is, at once and whenever that changes. */
  onState(handler: (status: Status) => void): () => void {
    handler(this.status)
    return this.#listen('state', handler)
  }

  /**
   * Takes what handlers throw, and failures to keep the cursor. Without such a handler they are uncaught exceptions:
   * Node ends, and the event comes again the next time. With one, the event counts as handled.
   */
  onError(handler: (error: unknown) => void): () => void {
    return this.#listen('error', handler)
  }

  /**
   * Publishes an event, or several of one company as one group, whole or not at all. Without a connection it waits for
   * one. It is tried again, with the same id, until there is an answer.
   */
  publish(group: readonly DraftOf<C>[], options?: { signal?: AbortSignal }): Promise<Receipt[]>
  publish(draft: DraftOf<C>, options?: { signal?: AbortSignal }): Promise<Receipt>
  async publish(drafts: DraftOf<C> | readonly DraftOf<C>[], { signal }: { signal?: AbortSignal } = {}): Promise<Receipt | Receipt[]> {
    const group = Array.isArray(drafts)
    const events = (group ? drafts : [drafts]).map((draft: object) => this.#complete(draft))
    const { events: receipts = [] } = await this.#calls.ask('publish', { events }, signal)
    return group ? receipts : receipts[0]!
  }

  /** Publishes a request and waits for the event that answers it. `reply_timeout`: there was none in time; it stays open. */
  async request<N extends NamespaceOf<C>, T extends RequestType<C, N>>(
    draft: RequestDraft<N, T, C[N][T] extends { data: infer Data } ? Data : never>, { signal }: { signal?: AbortSignal } = {},
  ): Promise<ReplyOf<C, N, T>> {
    const { reply } = await this.#calls.ask('request', this.#complete(draft), signal)
    return reply as ReplyOf<C, N, T>
  }

  /** Answers a request: publishes an event that belongs to it, to the same rooms. */
  answer<E extends EventOf<C>, T extends keyof C[E['namespace']] & string>(
    request: E, type: T, data: C[E['namespace']][T] extends { data: infer Data } ? Data : never,
    { signal, ...more }: Partial<Draft> & { signal?: AbortSignal } = {},
  ): Promise<Receipt> {
    const { namespace, rooms, id, correlationId } = request
    const draft = { namespace, type, data, rooms, correlationId, causationId: id, ...more }
    return this.publish(draft as DraftOf<C>, signal ? { signal } : {})
  }

  /** With `ack: 'manual'`: everything up to this event, or cursor, is done. */
  ack(done: Cursor | { cursor: Cursor }): void {
    this.#dispatch({ type: 'handled', cursor: typeof done === 'string' ? done : done.cursor })
  }

  /**
   * Ends the connection. The promise is kept when the handlers that run are done and the cursor is kept, so do not wait
   * for it inside a handler.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    globalThis.removeEventListener?.('online', this.#online)
    await this.#deliveries.stop()
    this.#acknowledge()
    if (this.#state.phase !== 'closed') this.#problem = null
    this.#dispatch({ type: 'close' })
    await this.#store.settled()
    await this.#slot?.close()
  }

  async #start(): Promise<void> {
    const { cursor: storage, from, companyId } = this.#options
    try {
      this.#slot = await storage?.open(scopeOf(this.#http.url, companyId, this.#subscribe))
    } catch (cause) {
      this.#problem = storageError(cause, 'the cursor that was kept cannot be read')
      this.#dispatch({ type: 'close' })
      return
    }
    this.#dispatch({ type: 'start', cursor: this.#slot?.cursor ?? from ?? null })
  }

  #online = (): void => this.#dispatch({ type: 'nudge' })

  /** Gives the machine an event and does what it says. An effect that leads to another event has it wait its turn. */
  #dispatch(event: Event): void {
    if (this.#events) {
      this.#events.push(event)
      return
    }
    this.#events = [event]
    for (let next = this.#events.shift(); next; next = this.#events.shift()) {
      const [state, effects] = step(this.#state, next)
      this.#state = state
      for (const effect of effects) this.#do(effect)
      this.#tell()
    }
    this.#events = undefined
  }

  #do(effect: Effect): void {
    switch (effect.do) {
      case 'connect': void this.#connect(effect); break
      case 'disconnect': this.#disconnect(); break
      case 'unfollow': this.#unfollow(); break
      case 'ping': this.#line?.send({ type: 'ping' }); break
      case 'renew': void this.#renew(effect.connection); break
      case 'timer': this.#setTimer(effect.name, effect.atLeastMs + Math.random() * effect.spreadMs); break
      case 'stop': clearTimeout(this.#timers.get(effect.name)); break
      case 'deliver': this.#deliver(effect.events, effect.cursor); break
      case 'snapshot': this.#deliveries.add({ kind: 'snapshot', page: effect.page }); break
      case 'reset': this.#deliveries.add({ kind: 'reset', reset: effect.reset }); break
      case 'resnapshot': this.#line?.send({ type: 'subscribe', ref: snapshotRef, subscribe: this.#wanted(effect.namespaces).filter(({ snapshot }) => snapshot) }); break
      case 'store': this.#store.put(effect.cursor); break
      case 'acknowledge':
        this.#ack = effect.cursor
        this.#ackTimer ??= setTimeout(() => this.#acknowledge(), ackPauseMs)
    }
  }

  async #connect({ connection, transport, cursor, snapshots }: Extract<Effect, { do: 'connect' }>): Promise<void> {
    let token: string
    try {
      token = await this.#http.token(true)
    } catch (cause) {
      this.#problem = new TailroomError({ code: 'unauthenticated', message: 'token() failed' }, { cause })
      this.#dispatch({ type: 'closed', connection, code: noToken })
      return
    }
    if (this.#state.connection !== connection || this.#state.phase !== 'connecting') return
    const { companyId, consumer } = this.#options
    const closed: Listener['closed'] = (how) => {
      if (connection !== this.#state.connection) return
      const code = how.reason ?? (how.code === 1006 ? 'network' : closeName(how.code))
      this.#problem = new TailroomError({ code, message: how.message ?? `the connection ended: ${closeName(how.code)}` })
      this.#disconnect()
      if (how.code === tooLarge && this.#state.phase !== 'connecting') {
        const said = this.#state.advice?.code === 'too_large' ? this.#state.advice : {}
        this.#calls.tooLarge(new TailroomError({ message: 'the message is too large', ...said, code: 'too_large' }))
      }
      this.#dispatch({ type: 'closed', connection, ...how })
    }
    this.#lineToken = token
    try {
      this.#line = this.#transports[transport](
        { url: this.#http.url, token, cursor, subscribe: this.#wanted(snapshots), companyId, consumer },
        {
          message: (message) => this.#hear(connection, message),
          heard: (retryMs) => this.#dispatch({ type: 'heard', connection, ...(retryMs === undefined ? {} : { retryMs }) }),
          closed,
        })
    } catch (error) { // as browsers do with ws:// on a page of https
      closed({ code: 1006, message: String(error) })
    }
  }

  /** The subscriptions; the state is asked for only where it is still wanted. */
  #wanted(snapshots: readonly string[]): Subscription[] {
    return this.#subscribe.map(({ snapshot, ...rest }) => snapshot && snapshots.includes(rest.namespace) ? { ...rest, snapshot } : rest)
  }

  #hear(connection: number, message: ServerMessage): void {
    this.#dispatch({ type: 'message', connection, message })
    if (connection !== this.#state.connection || !this.#line) return
    if (message.type === 'reply' || message.type === 'error') this.#calls.reply(message)
    if (message.type === 'reply' && message.ref === snapshotRef && !message.ok) return this.#giveUp(connection, message)
    if (message.type !== 'welcome') return
    const line = this.#line
    if (this.#state.transport === 'websocket') this.#calls.connected((call) => line.send(call))
    else this.#calls.connectedOneWay()
  }

  /** The state cannot be had at present: with the next hello it is asked for again. */
  #giveUp(connection: number, { retryAfterMs }: { retryAfterMs?: number }): void {
    this.#disconnect()
    this.#dispatch({ type: 'closed', connection, code: 1013, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) })
  }

  #disconnect(): void {
    this.#line?.close()
    this.#line = undefined
    this.#calls.disconnected()
    clearTimeout(this.#ackTimer)
    this.#ackTimer = undefined
  }

  #unfollow(): void {
    if (this.#state.transport === 'websocket') {
      const namespaces = new Set(this.#subscribe.map(({ namespace }) => namespace))
      this.#line?.send({ type: 'unsubscribe', ref: 'unfollow', unsubscribe: Array.from(namespaces, (namespace) => ({ namespace })) })
    } else {
      this.#disconnect()
      this.#calls.connectedOneWay()
    }
  }

  async #renew(connection: number): Promise<void> {
    const token = await this.#http.token(true).catch(() => undefined) // then the token runs out, and it is asked again
    if (token === undefined || token === this.#lineToken || connection !== this.#state.connection) return
    this.#lineToken = token
    this.#line?.send({ type: 'auth', ref: 'auth', token })
    this.#dispatch({ type: 'renewed', connection })
  }

  #setTimer(name: TimerName, ms: number): void {
    clearTimeout(this.#timers.get(name))
    this.#timers.set(name, setTimeout(() => this.#dispatch({ type: 'timer', name }), ms))
  }

  #deliver(events: readonly TailroomEvent[], cursor: Cursor): void {
    const items: Item[] = events.map((event) => ({ kind: 'event', event }))
    if (cursor !== events.at(-1)?.cursor) items.push({ kind: 'bookmark', cursor })
    this.#deliveries.add(...items)
  }

  #handle(item: Item): void | Promise<void> {
    switch (item.kind) {
      case 'event':
        this.#last = item.event.cursor
        return this.#run([...this.#listening(`event ${item.event.type}`), ...this.#listening('any')], item.event)
      case 'snapshot': return this.#run(this.#listening('snapshot'), item.page)
      case 'reset': return this.#run(this.#listening('reset'), item.reset)
      case 'bookmark': return
    }
  }

  /** Runs handlers in turn. It is a promise only if one of them is, so that the rest costs no turn of the event loop. */
  #run(handlers: Handler<any>[], value: unknown): void | Promise<void> {
    for (const [i, handler] of handlers.entries()) {
      try {
        const promised = handler(value)
        if (promised) return promised.catch((error: unknown) => this.#report(error)).then(() => this.#run(handlers.slice(i + 1), value))
      } catch (error) {
        return this.#report(error).then(() => this.#run(handlers.slice(i + 1), value))
      }
    }
  }

  #handled(item: Item): void {
    if (item.kind === 'reset') {
      this.#last = null
      return this.#dispatch({ type: 'handled', cursor: item.reset.resume, reset: true })
    }
    if (item.kind === 'snapshot') return
    if (this.#options.ack !== 'manual') {
      return this.#dispatch({ type: 'handled', cursor: item.kind === 'event' ? item.event.cursor : item.cursor })
    }
    // A bookmark counts if nothing before it waits for its ack.
    const { handled } = this.#state
    const done = this.#last === null || (handled !== null && compareCursors(handled, this.#last) >= 0)
    if (item.kind === 'bookmark' && done) this.#dispatch({ type: 'handled', cursor: item.cursor })
  }

  async #save(cursor: Cursor): Promise<void> {
    try {
      await this.#slot?.save(cursor)
    } catch (cause) {
      await this.#report(storageError(cause, 'the cursor cannot be kept'))
    }
  }

  #acknowledge(): void {
    clearTimeout(this.#ackTimer)
    this.#ackTimer = undefined
    if (this.#ack !== undefined) this.#line?.send({ type: 'ack', cursor: this.#ack })
    this.#ack = undefined
  }

  /** Gives an error to whoever takes errors, or to the platform, and lets that act before anything else happens. */
  async #report(error: unknown): Promise<void> {
    const handlers = this.#listening('error')
    if (handlers.length > 0) return handlers.forEach((handler) => void handler(error))
    setTimeout(() => { throw error })
    await new Promise((resolve) => setTimeout(resolve, 1))
  }

  #complete(draft: object): object {
    const { companyId } = this.#options
    return { id: uuid(), ...(companyId === undefined ? {} : { companyId }), ...draft }
  }

  #tell(): void {
    const status = this.status
    const { phase, transport, error } = this.#status
    if (status.phase === phase && status.transport === transport && status.error === error) return
    if (status.phase === 'closed' && phase !== 'closed') this.#end()
    this.#status = this.status
    void this.#run(this.#listening('state'), this.#status)
  }

  /** Closed for good: by the application, or by a server that wants something changed first. */
  #end(): void {
    if (this.#state.error) this.#problem = new TailroomError(this.#state.error)
    const { code, message } = this.#problem ?? { code: 'closed', message: 'the client is closed' }
    this.#calls.end(new TailroomError({ code, message }))
    void this.close()
  }

  #listen(name: string, handler: Handler<any>): () => void {
    const handlers = this.#handlers.get(name) ?? new Set()
    this.#handlers.set(name, handlers.add(handler))
    return () => void handlers.delete(handler)
  }

  #listening(name: string): Handler<any>[] {
    return [...(this.#handlers.get(name) ?? [])]
  }
}

function storageError(cause: unknown, message: string): TailroomError {
  return cause instanceof TailroomError ? cause : new TailroomError({ code: 'storage', message }, { cause })
}
