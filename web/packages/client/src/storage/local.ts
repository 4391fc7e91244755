// One cursor for all tabs of an origin. Every tab writes a key of its own and
// holds a Web Lock of the same name for as long as it lives; what a new tab
// starts from is the lowest cursor of the tabs that live. So no tab moves it
// past what another has yet to handle, and no two write the same key.
import { compareCursors, isCursor, type Cursor } from '../cursor.js'
import { TailroomError } from '../errors.js'
import { uuid } from '../uuid.js'
import type { CursorSlot, CursorStorage } from './storage.js'

/**
 * Keeps the cursor in localStorage. Pages need Web Locks: that is https, or
 * localhost.
 *
 * @param key what the tabs that share the cursor have in common; by default the
 * server and the subscriptions.
 */
export function localStorageCursor({ key }: { key?: string } = {}): CursorStorage {
  return {
    async open(scope) {
      if (typeof localStorage === 'undefined' || typeof navigator === 'undefined' || !navigator.locks) {
        throw new TailroomError({
          code: 'storage',
          message: 'localStorageCursor needs localStorage and Web Locks, which pages have over https and on localhost; use memoryCursor elsewhere',
        })
      }
      const tab = new Tab(`tailroom:${key ?? scope}:`)
      await tab.hold()
      return tab.begin()
    },
  }
}

class Tab implements CursorSlot {
  cursor: Cursor | null = null
  readonly #prefix: string
  readonly #name: string
  #release: (() => void) | undefined

  constructor(prefix: string) {
    this.#prefix = prefix
    this.#name = prefix + uuid()
  }

  /** Tells the other tabs that this one lives. Only then may it have a key: one without a lock is a dead tab's. */
  async hold(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      navigator.locks.request(this.#name, () => new Promise<void>((release) => {
        this.#release = release
        resolve()
      })).catch(reject).finally(() => {
        this.#release = undefined // the browser takes it from a page that it puts away
      })
    })
  }

  async begin(): Promise<this> {
    // First the keys, then the locks: whose key was there and whose lock is not has died.
    const cursors = this.#cursors()
    const living = await this.#living()
    const alive = [...cursors].filter(([name]) => living.has(name))
    this.cursor = lowest((alive.length > 0 ? alive : [...cursors]).map(([, cursor]) => cursor))
    if (this.cursor !== null) localStorage.setItem(this.#name, this.cursor)
    if (this.cursor !== null) this.#forget(cursors, living)
    return this
  }

  async save(cursor: Cursor): Promise<void> {
    if (!this.#release) await this.hold()
    localStorage.setItem(this.#name, cursor)
    const cursors = this.#cursors()
    if (cursors.size > 1) this.#forget(cursors, await this.#living())
  }

  /** The key stays: if no other tab lives, the next one goes on from it. */
  async close(): Promise<void> {
    this.#release?.()
  }

  #cursors(): Map<string, Cursor> {
    const cursors = new Map<string, Cursor>()
    for (let i = 0; i < localStorage.length; i++) {
      const name = localStorage.key(i)
      if (!name?.startsWith(this.#prefix) || name.slice(this.#prefix.length).includes(':')) continue
      const cursor = localStorage.getItem(name)
      if (isCursor(cursor)) cursors.set(name, cursor)
    }
    return cursors
  }

  async #living(): Promise<Set<string>> {
    const { held = [] } = await navigator.locks.query()
    return new Set(held.map(({ name }) => name ?? ''))
  }

  /** Takes away the keys of tabs that have died: this one's is there by now. */
  #forget(cursors: Map<string, Cursor>, living: Set<string>): void {
    for (const name of cursors.keys()) if (name !== this.#name && !living.has(name)) localStorage.removeItem(name)
  }
}

function lowest(cursors: Cursor[]): Cursor | null {
  return cursors.reduce<Cursor | null>((low, cursor) => low === null || compareCursors(cursor, low) < 0 ? cursor : low, null)
}
