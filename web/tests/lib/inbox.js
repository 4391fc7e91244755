/** What a client has received, and a way to wait for it. */
export class Inbox {
  /** The envelopes as they came, as text. */
  received = []
  #waiting = new Set()

  add(envelope) {
    this.received.push(envelope)
    for (const check of this.#waiting) check()
  }

  /** Resolves when so many have come, with the time; more may have come by then. */
  until(count) {
    return new Promise((resolve) => {
      const check = () => {
        if (this.received.length < count) return
        this.#waiting.delete(check)
        resolve(performance.now())
      }
      this.#waiting.add(check)
      check()
    })
  }
}
