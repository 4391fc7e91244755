// The client as a pure state machine: (state, event) → (state, effects). It
// knows no sockets, timers or storage; SPEC.md has its states, events, effects
// and rules, and the table that the tests go through.
import { compareCursors, isCursor, type Cursor } from './cursor.js'
import type { Reset, ServerMessage, SnapshotPage, TailroomEvent } from './protocol.js'

export type Phase = 'idle' | 'connecting' | 'replaying' | 'live' | 'degraded' | 'waiting' | 'holding' | 'closed'
export type TransportName = 'websocket' | 'sse'

/** What does not change in a client's life. */
export interface Rules {
  /** In the order in which they are tried. */
  readonly transports: readonly TransportName[]
  /** Namespaces whose state comes first. */
  readonly snapshots: readonly string[]
  /** Handled cursors are acknowledged to the server as well. */
  readonly consumer: boolean
}

export interface State {
  readonly phase: Phase
  readonly rules: Rules
  /** The number of the present connection. What an older one still says is passed over. */
  readonly connection: number
  readonly transport: TransportName
  /** Where the next connection begins. Null: where the server says. */
  readonly cursor: Cursor | 'now' | 'earliest' | null
  /** Up to where the application has handled everything. */
  readonly handled: Cursor | null
  /** Namespaces whose state is yet to come, or to come again. */
  readonly snapshots: readonly string[]
  /** The namespace of which more pages come on this connection. */
  readonly paging: string | null
  /** Connections lost since one was live. */
  readonly attempt: number
  /** Tries in a row that came to nothing, as behind a proxy that lets no WebSocket through. */
  readonly refusals: number
  /** The transport that was last welcomed. */
  readonly welcomed: TransportName | null
  readonly heartbeatMs: number
  /** What the first wait is drawn from; the server may change it. */
  readonly retryMs: number
  /** The server's last word on why it will close, and how long to stay away. */
  readonly advice: { readonly code?: string; readonly message?: string; readonly retryAfterMs?: number } | null
  /** Nothing was heard for a heartbeat, and a ping is under way. */
  readonly pinged: boolean
  /** More waits for the application than may. */
  readonly full: boolean
  /** Why it closed for good. */
  readonly error: { readonly code: string; readonly message: string } | null
}

export type Event =
  | { type: 'start'; cursor: Cursor | 'now' | 'earliest' | null }
  | { type: 'message'; connection: number; message: ServerMessage }
  | { type: 'heard'; connection: number; retryMs?: number }
  | { type: 'closed'; connection: number; code: number; retryAfterMs?: number; reason?: string; message?: string }
  | { type: 'timer'; name: TimerName }
  | { type: 'renewed'; connection: number }
  | { type: 'handled'; cursor: Cursor; reset?: boolean }
  | { type: 'backlog'; full: boolean }
  | { type: 'nudge' }
  | { type: 'close' }

/** `deadline` is for a connection to be made, `silence` for hearing nothing, `retry` for the wait between two. */
export type TimerName = 'deadline' | 'silence' | 'retry'

export type Effect =
  | { do: 'connect'; connection: number; transport: TransportName; cursor: State['cursor']; snapshots: readonly string[] }
  | { do: 'disconnect'; connection: number }
  /** No more events, while calls go on: a WebSocket unsubscribes; a stream of events is closed, and calls use HTTP. */
  | { do: 'unfollow'; connection: number }
  | { do: 'ping'; connection: number }
  | { do: 'renew'; connection: number }
  /** After `atLeastMs`, and a random share of `spreadMs`. A timer of that name is replaced. */
  | { do: 'timer'; name: TimerName; atLeastMs: number; spreadMs: number }
  | { do: 'stop'; name: TimerName }
  /** To the application, in this order. No events: a bookmark. */
  | { do: 'deliver'; events: readonly TailroomEvent[]; cursor: Cursor }
  | { do: 'snapshot'; page: SnapshotPage }
  | { do: 'reset'; reset: Reset }
  /** Ask for the state again, on the connection there is. */
  | { do: 'resnapshot'; connection: number; namespaces: readonly string[] }
  | { do: 'store'; cursor: Cursor; reset: boolean }
  | { do: 'acknowledge'; connection: number; cursor: Cursor }

export type Step = readonly [State, readonly Effect[]]

export const deadlineMs = 15_000
export const defaultHeartbeatMs = 25_000
export const defaultRetryMs = 1_000
export const maxRetryMs = 30_000
/** How soon a line has to answer when the network is said to be back. */
export const nudgeMs = 5_000

/** A message was over the limit: the hello, if there was no welcome. */
export const tooLarge = 1009

/** The client's own close code: no token could be had. */
export const noToken = 0

export function initial(rules: Rules): State {
  return {
    phase: 'idle', rules, connection: 0, transport: rules.transports[0] ?? 'websocket', cursor: null, handled: null,
    snapshots: rules.snapshots, paging: null, attempt: 0, refusals: 0, welcomed: null, heartbeatMs: defaultHeartbeatMs,
    retryMs: defaultRetryMs, advice: null, pinged: false, full: false, error: null,
  }
}

export function step(state: State, event: Event): Step {
  if (state.phase === 'closed' && event.type !== 'handled') return [state, []]
  switch (event.type) {
    case 'start':
      if (state.phase !== 'idle') return [state, []]
      return connect({ ...state, cursor: event.cursor, handled: isCursor(event.cursor) ? event.cursor : null })
    case 'message':
      return stale(state, event.connection) ? [state, []] : hear(state, event.message)
    case 'heard':
      if (stale(state, event.connection)) return [state, []]
      return heard(event.retryMs === undefined ? state : { ...state, retryMs: clamp(event.retryMs, 100, maxRetryMs) })
    case 'closed':
      return stale(state, event.connection) ? [state, []] : lost(state, event)
    case 'timer':
      return ring(state, event.name)
    case 'renewed':
      return stale(state, event.connection) ? [state, []] : renewed(state)
    case 'handled':
      return handle(state, event.cursor, event.reset ?? false)
    case 'backlog':
      return backlog({ ...state, full: event.full })
    case 'nudge':
      return nudge(state)
    case 'close':
      return leave(state)
  }
}

const connected = (state: State) => state.phase === 'connecting' || welcomed(state)
const following = (state: State) => state.phase === 'replaying' || state.phase === 'live' || state.phase === 'degraded'
const welcomed = (state: State) => following(state) || (state.phase === 'holding' && state.transport === 'websocket')
const stale = (state: State, connection: number) => connection !== state.connection || !connected(state)

function connect(state: State): Step {
  const connection = state.connection + 1
  const transport = chooseTransport(state)
  return [
    { ...state, phase: 'connecting', connection, transport, paging: null, advice: null, pinged: false },
    [
      { do: 'stop', name: 'retry' },
      { do: 'connect', connection, transport, cursor: state.cursor, snapshots: state.snapshots },
      { do: 'timer', name: 'deadline', atLeastMs: deadlineMs, spreadMs: 0 },
    ],
  ]
}

/**
 * The first transport, until two tries in a row came to nothing, or one if the
 * other transport was the last that worked. Then they take turns.
 */
function chooseTransport({ rules: { transports }, refusals, welcomed }: State): TransportName {
  const [first, second] = transports
  if (!first) throw new TypeError('there is no transport')
  if (!second) return first
  const patience = welcomed === second ? 1 : 2
  return refusals < patience || (refusals - patience) % 2 === 1 ? first : second
}

/** What the server says. */
function hear(state: State, message: ServerMessage): Step {
  if (state.phase === 'connecting') {
    if (message.type === 'welcome') return welcome(state, message.cursor, message.heartbeatMs)
    if (message.type === 'error') return [{ ...state, advice: message }, []]
    return [state, []]
  }
  const [next, effects] = state.phase === 'holding' && isOfTheLog(message) ? [state, []] as const : understand(state, message)
  const [after, more] = heard(next)
  return [after, [...effects, ...more]]
}

/** What was under way when the client held on comes again: the next connection begins where it stopped. */
function isOfTheLog({ type }: ServerMessage): boolean {
  return ['events', 'cursor', 'live', 'reset', 'snapshot', 'degraded', 'goaway'].includes(type)
}

function understand(state: State, message: ServerMessage): Step {
  switch (message.type) {
    case 'events': {
      return advance(state, message.cursor, message.events)
    }
    case 'cursor':
      return advance(state, message.cursor, [])
    case 'live':
      return advance({ ...state, phase: 'live', attempt: 0, heartbeatMs: message.heartbeatMs ?? state.heartbeatMs }, message.cursor, [])
    case 'reset':
      return reset(state, message)
    case 'snapshot': {
      const { namespace, states, cursor, more } = message
      const snapshots = more ? state.snapshots : state.snapshots.filter((name) => name !== namespace)
      const page = { namespace, states, cursor, first: state.paging !== namespace, more }
      return [{ ...state, snapshots, paging: more ? namespace : null }, [{ do: 'snapshot', page }]]
    }
    case 'degraded':
      return [{ ...state, phase: 'degraded' }, []]
    case 'expiring':
      return [state, [{ do: 'renew', connection: state.connection }]]
    case 'goaway':
      return message.cursor === undefined ? [state, []] : advance(state, message.cursor, [])
    case 'error':
      return message.ref === undefined ? [{ ...state, advice: message }, []] : [state, []]
    default:
      return [state, []] // replies and pongs, and what newer servers say
  }
}

function reset(state: State, { reason, oldest, resume, snapshot }: Reset): Step {
  const snapshots = state.rules.snapshots
  const next: State = { ...state, phase: 'replaying', cursor: resume, snapshots }
  const told: Effect = { do: 'reset', reset: { reason, oldest, resume, snapshot } }
  // What this connection was asked for and has not sent yet still comes.
  const namespaces = snapshots.filter((namespace) => !state.snapshots.includes(namespace))
  if (namespaces.length === 0) return [next, [told]]
  if (state.transport === 'websocket') return [next, [told, { do: 'resnapshot', connection: state.connection, namespaces }]]
  const [after, effects] = reconnect(next)
  return [after, [told, ...effects]]
}

function welcome(state: State, cursor: Cursor | undefined, heartbeatMs: number | undefined): Step {
  const next: State = {
    ...state, phase: 'replaying', refusals: 0, welcomed: state.transport, heartbeatMs: heartbeatMs ?? state.heartbeatMs,
  }
  const effects: Effect[] = [{ do: 'stop', name: 'deadline' }]
  if (state.rules.consumer && state.handled !== null) {
    effects.push({ do: 'acknowledge', connection: state.connection, cursor: state.handled }) // the last one may be lost
  }
  // Whoever has a cursor keeps it: if the server cannot begin there, a reset says so.
  const [after, more] = cursor !== undefined && !isCursor(state.cursor) ? advance(next, cursor, []) : [next, []] as const
  const [alive, timer] = heard(after)
  const [final, rest] = backlog(alive) // earlier connections may have brought enough
  return [final, [...effects, ...more, ...timer, ...rest]]
}

/** Moves the cursor, never back, and hands on the events that it has not passed yet. */
function advance(state: State, cursor: Cursor, came: readonly TailroomEvent[]): Step {
  let reached = state.cursor
  const events: TailroomEvent[] = []
  for (const event of came) {
    if (!isBehind(reached, event.cursor)) continue
    events.push(event)
    reached = event.cursor
  }
  if (isBehind(reached, cursor)) reached = cursor
  if (reached === state.cursor || !isCursor(reached)) return [state, []]
  return [{ ...state, cursor: reached }, [{ do: 'deliver', events, cursor: reached }]]
}

function isBehind(mine: State['cursor'], cursor: Cursor): boolean {
  return !isCursor(mine) || compareCursors(cursor, mine) > 0
}

function heard(state: State): Step {
  if (!welcomed(state)) return [state, []]
  return [{ ...state, pinged: false }, [{ do: 'timer', name: 'silence', atLeastMs: state.heartbeatMs, spreadMs: 0 }]]
}

function ring(state: State, name: TimerName): Step {
  if (name === 'retry') return state.phase === 'waiting' ? connect(state) : [state, []]
  if (name === 'deadline') return state.phase === 'connecting' ? cut(state) : [state, []]
  if (!welcomed(state)) return [state, []]
  return state.pinged ? cut(state) : ping(state, state.heartbeatMs)
}

function ping(state: State, patienceMs: number): Step {
  return [
    { ...state, pinged: true },
    [{ do: 'ping', connection: state.connection }, { do: 'timer', name: 'silence', atLeastMs: patienceMs, spreadMs: 0 }],
  ]
}

/** Gives the connection up itself. */
function cut(state: State): Step {
  const [next, effects] = lost(state, { code: 1006 })
  return [next, [{ do: 'disconnect', connection: state.connection }, ...effects]]
}

/** There is a new token. A stream of events cannot be told: it is opened anew with it. */
function renewed(state: State): Step {
  return state.transport === 'websocket' || !welcomed(state) ? [state, []] : reconnect(state)
}

function reconnect(state: State): Step {
  const [next, effects] = connect(state)
  return [next, [{ do: 'disconnect', connection: state.connection }, { do: 'stop', name: 'silence' }, ...effects]]
}

function nudge(state: State): Step {
  if (state.phase === 'waiting') return connect(state)
  if (welcomed(state) && state.transport === 'websocket') return ping(state, Math.min(nudgeMs, state.heartbeatMs))
  return [state, []]
}

function lost(state: State, how: { code: number; retryAfterMs?: number; reason?: string; message?: string }): Step {
  const stop: Effect[] = [{ do: 'stop', name: 'deadline' }, { do: 'stop', name: 'silence' }]
  if (isFinal(how.code, state.phase !== 'connecting')) return [{ ...state, phase: 'closed', error: explain(state, how) }, stop]
  // A token that has expired in use is renewed at once; one that comes expired is not asked for in a hurry.
  const atOnce = how.code === 4002 && state.attempt === 0
  const spreadMs = atOnce ? 0 : Math.min(maxRetryMs, state.retryMs * 2 ** Math.min(state.attempt, 16))
  const atLeastMs = how.retryAfterMs ?? state.advice?.retryAfterMs ?? 0
  return [
    { ...state, phase: 'waiting', attempt: state.attempt + 1, refusals: refusals(state, how.code), advice: null, pinged: false },
    [...stop, { do: 'timer', name: 'retry', atLeastMs, spreadMs }],
  ]
}

/** Whoever closes with a reason was reached; that there was no token says nothing of the transport. */
function refusals(state: State, code: number): number {
  if (code === noToken) return state.refusals
  return state.phase === 'connecting' && code === 1006 ? state.refusals + 1 : 0
}

/** Before it refuses a hello, and when too many messages were wrong, the server says more than the close code can. */
function explain(state: State, how: { code: number; reason?: string; message?: string }): { code: string; message: string } {
  const advice = state.phase === 'connecting' || how.code === 4103 ? state.advice : null
  const name = closeName(how.code)
  return {
    code: advice?.code ?? how.reason ?? name,
    message: advice?.message ?? how.message ?? `the server closed the connection: ${name}`,
  }
}

/** More waits than may, or so little that there is room again. */
function backlog(state: State): Step {
  if (state.full && following(state)) return hold(state)
  if (!state.full && state.phase === 'holding') return reconnect(state)
  return [state, []]
}

/** Follows no more and keeps the connection, for calls and acknowledgements: what the handlers wait for may be one. */
function hold(state: State): Step {
  const effects: Effect[] = [{ do: 'unfollow', connection: state.connection }]
  if (state.transport === 'sse') effects.push({ do: 'stop', name: 'silence' })
  return [{ ...state, phase: 'holding' }, effects]
}

function leave(state: State): Step {
  const effects: Effect[] = [{ do: 'stop', name: 'retry' }, { do: 'stop', name: 'deadline' }, { do: 'stop', name: 'silence' }]
  if (connected(state)) effects.unshift({ do: 'disconnect', connection: state.connection })
  return [{ ...state, phase: 'closed', pinged: false }, effects]
}

/** The application is done with everything up to the cursor. */
function handle(state: State, cursor: Cursor, reset: boolean): Step {
  if (!reset && state.handled !== null && compareCursors(cursor, state.handled) <= 0) return [state, []]
  const effects: Effect[] = [{ do: 'store', cursor, reset }]
  if (state.rules.consumer && welcomed(state)) effects.push({ do: 'acknowledge', connection: state.connection, cursor })
  return [{ ...state, handled: cursor }, effects]
}

/**
 * A client comes back by itself unless something has to change first. What was too large behind the welcome is one
 * message: its call fails, and the connection is made again.
 */
export function isFinal(code: number, welcomed: boolean): boolean {
  return (code === tooLarge && !welcomed) || (code >= 4100 && code <= 4199)
}

const names: Record<number, string> = {
  1001: 'draining', 1009: 'too_large', 1011: 'internal', 1013: 'overloaded',
  4000: 'slow', 4001: 'heartbeat_missed', 4002: 'token_expired', 4003: 'hello_timeout', 4004: 'message_timeout',
  4100: 'unauthenticated', 4101: 'token_revoked', 4102: 'forbidden', 4103: 'invalid_message', 4104: 'replaced',
  4105: 'disconnected', 4106: 'cursor_invalid',
}

/** The reason that goes with a close code. */
export function closeName(code: number): string {
  return names[code] ?? `code ${code}`
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value))
}
