import type { Cursor } from '../cursor.js'
import type { CursorStorage } from './storage.js'

/** Keeps cursors for as long as the object lives: for clients that come one after the other, and for tests. */
export function memoryCursor(): CursorStorage {
  const cursors = new Map<string, Cursor>()
  return {
    async open(scope) {
      return {
        cursor: cursors.get(scope) ?? null,
        async save(cursor) { cursors.set(scope, cursor) },
        async close() {},
      }
    },
  }
}
