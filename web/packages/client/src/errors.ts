import type { Problem } from './protocol.js'

/** The codes of docs/protocol.md, and the client's own: `closed`, `aborted`, `network`, `no_websocket`, `too_many_pending`, `storage`. */
export type ErrorCode =
  | 'invalid_json' | 'invalid_message' | 'invalid_cursor' | 'invalid_room' | 'invalid_parameter'
  | 'unauthenticated' | 'token_expired' | 'token_revoked' | 'forbidden' | 'not_found'
  | 'unknown_namespace' | 'unknown_type' | 'schema_violation'
  | 'version_conflict' | 'id_reused' | 'partial_duplicate' | 'already_answered'
  | 'cursor_expired' | 'cursor_diverged' | 'too_large' | 'rate_limited'
  | 'unavailable' | 'overloaded' | 'draining' | 'internal' | 'reply_timeout'
  | 'replaced' | 'disconnected' | 'cursor_invalid'
  | 'closed' | 'aborted' | 'network' | 'no_websocket' | 'too_many_pending' | 'storage'
  | (string & {})

/** Every error of this package. Programs look at `code`, people at `message`. */
export class TailroomError extends Error {
  override readonly name = 'TailroomError'
  readonly code: ErrorCode
  /** The HTTP status, where there was one. */
  readonly status: number | undefined
  /** Not to be tried again before so many milliseconds have passed. */
  readonly retryAfterMs: number | undefined
  /** All that the server said: `errors`, `conflicts`, `currentVersion`, `allowed`, … */
  readonly details: Readonly<Record<string, unknown>>

  constructor(problem: Problem, options?: { cause?: unknown; status?: number }) {
    super(problem.message, options?.cause === undefined ? undefined : { cause: options.cause })
    this.code = problem.code
    this.status = options?.status
    this.retryAfterMs = problem.retryAfterMs
    this.details = problem
  }

  /** Nothing is wrong with what was asked: it may be asked again, with the same id. */
  get retriable(): boolean {
    return retriable.has(this.code)
  }
}

const retriable = new Set<string>(['network', 'unavailable', 'overloaded', 'draining', 'rate_limited', 'internal', 'token_expired', 'request_timeout'])
