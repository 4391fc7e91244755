// The messages of the subprotocol tailroom.v1, as docs/protocol.md describes them.
import type { Cursor } from './cursor.js'

/** A fact of the log, as it is delivered everywhere. */
export interface TailroomEvent<Namespace extends string = string, Type extends string = string, Data = Record<string, unknown>> {
  cursor: Cursor
  position: number
  id: string
  namespace: Namespace
  type: Type
  schemaVersion: number
  companyId: string
  rooms: string[]
  stream: string | null
  version: number | null
  occurredAt: string
  recordedAt: string
  actor: string
  correlationId: string
  causationId: string | null
  replyBy: string | null
  data: Data
}

/** What a publisher says of an event; what he leaves out comes from the token and the catalogue. */
export interface Draft<Namespace extends string = string, Type extends string = string, Data = Record<string, unknown>> {
  namespace: Namespace
  type: Type
  data: Data
  companyId?: string
  rooms?: string[]
  stream?: string
  /** Publish only if the stream has this version; 0: it must not exist. */
  expectedVersion?: number
  /** A UUID. Without one the client makes it, so that its retries are harmless. */
  id?: string
  correlationId?: string
  causationId?: string
  occurredAt?: string
  replyBy?: string
  schemaVersion?: number
}

/** Where a published event is in the log. */
export interface Receipt {
  cursor: Cursor
  position: number
  id: string
  stream: string | null
  version: number | null
  /** The log had it already: this is the answer to a retry. */
  duplicate: boolean
}

/** A request and its answer. */
export interface Answered<Request = TailroomEvent, Reply = TailroomEvent> {
  request: Request
  reply: Reply
}

/** One namespace of a subscription. Without rooms: all that the token covers. */
export interface Subscription<Namespace extends string = string> {
  namespace: Namespace
  rooms?: string[]
  /** The state of these rooms first, then every event behind it; `open`: of streams that nothing has closed yet. */
  snapshot?: boolean | 'open'
}

/** The state of one stream: its events' data, merged. */
export interface StreamState {
  companyId: string
  namespace: string
  stream: string
  version: number
  state: Record<string, unknown>
  /** No event has closed it yet. */
  open: boolean
  rooms: string[]
  updatedAt: string
}

/** A page of a namespace's state, as it was at the cursor. */
export interface SnapshotPage extends SnapshotMessage {
  /** What came before of this namespace is void: a snapshot that was cut short begins anew. */
  first: boolean
}

export interface SnapshotMessage {
  namespace: string
  states: StreamState[]
  cursor: Cursor
  /** Another page follows. */
  more: boolean
}

/** The log cannot go on from the cursor: from here on it does. */
export interface Reset {
  reason: 'expired' | 'diverged'
  oldest: Cursor
  resume: Cursor
  snapshot: string
}

export type ServerMessage =
  | { type: 'welcome'; cursor?: Cursor; heartbeatMs?: number; session?: string; instance?: string; epoch?: number; rooms?: Record<string, string[]> }
  | { type: 'events'; events: TailroomEvent[]; cursor: Cursor }
  | { type: 'live'; cursor: Cursor; heartbeatMs?: number }
  | { type: 'cursor'; cursor: Cursor }
  | ({ type: 'snapshot' } & SnapshotMessage)
  | ReplyMessage
  | ({ type: 'reset' } & Reset)
  | { type: 'degraded'; reason: string }
  | { type: 'expiring'; expiresAt: string }
  | { type: 'goaway'; reason: string; delayMs: number; cursor?: Cursor }
  | ({ type: 'error'; ref?: number | string } & Problem)
  | { type: 'pong'; ref?: number | string }

export type ReplyMessage =
  | { type: 'reply'; ref?: number | string; ok: true; events?: Receipt[]; request?: TailroomEvent; reply?: TailroomEvent }
  | ({ type: 'reply'; ref?: number | string; ok: false } & Problem)

/** What is refused says why: a code for programs, a sentence for people. */
export interface Problem {
  code: string
  message: string
  retryAfterMs?: number
  [detail: string]: unknown
}
