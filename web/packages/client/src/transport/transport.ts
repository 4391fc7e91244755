// The seam between the client and its two transports. Both say what they hear
// as messages of the subprotocol and end with one of its close codes.
import type { Cursor } from '../cursor.js'
import type { ServerMessage, Subscription } from '../protocol.js'

/** What a connection is opened with. */
export interface Opening {
  /** The server's address, http or https, without a slash at the end. */
  url: string
  token: string
  cursor: Cursor | 'now' | 'earliest' | null
  subscribe: readonly Subscription[]
  companyId: string | undefined
  consumer: string | undefined
}

/** What a connection tells. After `closed` it says no more. */
export interface Listener {
  message(message: ServerMessage): void
  /** A sign of life that is no message. `retryMs`: where the server wants waits to begin. */
  heard(retryMs?: number): void
  closed(how: { code: number; reason?: string; message?: string; retryAfterMs?: number }): void
}

/** An open connection, or one that is being opened. */
export interface Line {
  /** Says something to the server; a line that cannot does nothing. */
  send(message: object): void
  /** Ends it; the listener is not told. */
  close(): void
}

export type Transport = (opening: Opening, listener: Listener) => Line
