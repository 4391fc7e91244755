/** A place in the log, `{epoch}-{position}`: everything up to here was received. */
export type Cursor = string

const form = /^(\d{1,16})-(\d{1,16})$/

/** Whether this is a place; the words `now` and `earliest` are none. */
export function isCursor(text: unknown): text is Cursor {
  return typeof text === 'string' && form.test(text)
}

/** Negative if a lies before b, 0 if they are the same place. A later epoch lies behind every place of an earlier one. */
export function compareCursors(a: Cursor, b: Cursor): number {
  const [epochA, positionA] = parts(a)
  const [epochB, positionB] = parts(b)
  return epochA - epochB || positionA - positionB
}

function parts(cursor: Cursor): [number, number] {
  const match = form.exec(cursor)
  if (!match) throw new TypeError(`${JSON.stringify(cursor)} is no cursor: it has the form {epoch}-{position}, such as 1-1042`)
  return [Number(match[1]), Number(match[2])]
}
