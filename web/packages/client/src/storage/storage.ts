import type { Cursor } from '../cursor.js'

/** Keeps a cursor between two lives of a client. */
export interface CursorStorage {
  /** @param scope names what the cursor is for: the server and what is subscribed to. */
  open(scope: string): Promise<CursorSlot>
}

export interface CursorSlot {
  /** Where to go on from; null: nothing is kept yet. */
  readonly cursor: Cursor | null
  /** Keeps the cursor. It is called with growing ones, one at a time, and with a lower one after a reset only. */
  save(cursor: Cursor): Promise<void>
  /** Nothing more will be saved. */
  close(): Promise<void>
}
