// Reads text/event-stream, as the HTML standard has it, with one difference: a
// lone id is reported, because the server moves the cursor with it.

export type Field = { type: 'event'; id: string | undefined; name: string; data: string } | { type: 'comment' } | { type: 'retry'; ms: number }

/** Takes the stream in pieces as they come, and gives what is complete. */
export class EventStreamParser {
  #rest = ''
  #id: string | undefined
  #name = ''
  #data: string[] = []

  feed(piece: string): Field[] {
    const fields: Field[] = []
    let text = this.#rest + piece
    // The other half of a line break may be in the next piece.
    const held = text.endsWith('\r') ? '\r' : ''
    if (held) text = text.slice(0, -1)
    const lines = text.split(/\r\n|\n|\r/)
    this.#rest = (lines.pop() ?? '') + held
    for (const line of lines) this.#take(line, fields)
    return fields
  }

  #take(line: string, fields: Field[]): void {
    if (line === '') return this.#dispatch(fields)
    const colon = line.indexOf(':')
    if (colon === 0) {
      fields.push({ type: 'comment' })
      return
    }
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1))
    if (name === 'data') this.#data.push(value)
    else if (name === 'event') this.#name = value
    else if (name === 'id' && !value.includes('\0')) this.#id = value
    else if (name === 'retry' && /^\d+$/.test(value)) fields.push({ type: 'retry', ms: Number(value) })
  }

  #dispatch(fields: Field[]): void {
    if (this.#id !== undefined || this.#data.length > 0) {
      fields.push({ type: 'event', id: this.#id, name: this.#name, data: this.#data.join('\n') })
    }
    this.#id = undefined
    this.#name = ''
    this.#data = []
  }
}
