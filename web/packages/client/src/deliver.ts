// The line in which everything waits for the application: events, bookmarks,
// snapshots and resets, handled one after the other, each to its end.
import type { Cursor } from './cursor.js'
import type { Reset, SnapshotPage, TailroomEvent } from './protocol.js'

export type Item =
  | { kind: 'event'; event: TailroomEvent }
  | { kind: 'bookmark'; cursor: Cursor }
  | { kind: 'snapshot'; page: SnapshotPage }
  | { kind: 'reset'; reset: Reset }

export interface Application {
  /** Runs the handlers; what they wait for is waited for. */
  handle(item: Item): void | Promise<void>
  /** It is done with the item. */
  handled(item: Item): void
  /** So many items wait. */
  waiting(count: number): void
}

export class Deliveries {
  readonly #application: Application
  #items: Item[] = []
  #next = 0
  #running: Promise<void> | undefined
  #stopped = false

  constructor(application: Application) {
    this.#application = application
  }

  add(...items: Item[]): void {
    if (this.#stopped) return
    for (const item of items) this.#items.push(item)
    this.#running ??= this.#run()
    this.#application.waiting(this.#waiting)
  }

  /** Nothing more is begun; what has begun is waited for. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#items = []
    this.#next = 0
    await this.#running
  }

  get #waiting(): number {
    return this.#items.length - this.#next
  }

  async #run(): Promise<void> {
    await undefined // handlers run behind whoever delivers
    while (this.#waiting > 0) {
      const item = this.#items[this.#next++]!
      const done = this.#application.handle(item)
      if (done) await done
      this.#application.handled(item)
      if (this.#next >= 256) this.#items.splice(0, this.#next), this.#next = 0
      this.#application.waiting(this.#waiting)
    }
    this.#items = []
    this.#next = 0
    this.#running = undefined
  }
}
