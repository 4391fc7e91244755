/** Passes on the newest of many values: one at a time, and what came meanwhile as one. Passing on must not fail. */
export class Keeper<Value> {
  readonly #pass: (value: Value) => Promise<void>
  #newest: { value: Value } | undefined
  #passing: Promise<void> | undefined

  constructor(pass: (value: Value) => Promise<void>) {
    this.#pass = pass
  }

  put(value: Value): void {
    this.#newest = { value }
    this.#passing ??= this.#run()
  }

  /** Resolves when all is passed on. */
  async settled(): Promise<void> {
    await this.#passing
  }

  async #run(): Promise<void> {
    await undefined
    for (let next = this.#newest; next; next = this.#newest) {
      this.#newest = undefined
      await this.#pass(next.value)
    }
    this.#passing = undefined
  }
}
