// Server-sent events over fetch, for lines that let no WebSocket through:
// docs/protocol.md, section 5. Unlike an EventSource, fetch sends the token in
// its header, and sees the status and the comments.
import { isCursor, type Cursor } from '../cursor.js'
import { TailroomError } from '../errors.js'
import { request } from '../http.js'
import type { Reset, ServerMessage, SnapshotMessage, Subscription, TailroomEvent } from '../protocol.js'
import { namedRooms, subscribed } from '../rooms.js'
import { EventStreamParser, type Field } from './eventstream.js'
import type { Listener, Opening, Transport } from './transport.js'

export const sseTransport: Transport = (opening, listener) => {
  const abort = new AbortController()
  follow(opening, listener, abort.signal).catch((error: unknown) => {
    if (!abort.signal.aborted) listener.closed(closing(error))
  })
  return { send: () => {}, close: () => abort.abort() } // one way
}

async function follow(opening: Opening, listener: Listener, signal: AbortSignal): Promise<void> {
  const begun = await snapshots(opening, listener, signal)
  const cursor = begun ?? opening.cursor
  const response = await request(`${opening.url}/v1/stream?${query(opening, cursor)}`, opening.token,
    { headers: { Accept: 'text/event-stream' }, signal })
  if (!response.body) throw new TypeError('this platform’s fetch cannot stream')
  // Without a cursor the first event, or live, says where it begins.
  if (begun === null) listener.message({ type: 'welcome' })
  const parser = new EventStreamParser()
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let farewell: string | undefined
  for (;;) {
    const { done, value } = await reader.read()
    if (signal.aborted) return
    if (done) return listener.closed({ code: codeOf(farewell) ?? 1006 })
    for (const message of understand(parser.feed(value), opening, listener)) {
      if (message.type === 'goaway') farewell = message.reason
      listener.message(message)
    }
  }
}

/** What the fields say, as the messages of a WebSocket; events that came together are one. */
function understand(fields: Field[], { subscribe }: Opening, listener: Listener): ServerMessage[] {
  const messages: ServerMessage[] = []
  for (const field of fields) {
    if (field.type !== 'event') {
      listener.heard(field.type === 'retry' ? field.ms : undefined)
      continue
    }
    const { id, name, data } = field
    if (name.startsWith('tailroom.')) {
      messages.push({ ...JSON.parse(data), type: name.slice('tailroom.'.length) } as ServerMessage)
    } else if (data === '') {
      if (isCursor(id)) messages.push({ type: 'cursor', cursor: id })
    } else {
      add(messages, JSON.parse(data) as TailroomEvent, subscribe)
    }
  }
  return messages
}

/** A stream has the same rooms for every namespace, so some events may be of no interest. */
function add(messages: ServerMessage[], event: TailroomEvent, subscribe: Opening['subscribe']): void {
  const events = subscribed(subscribe, event) ? [event] : []
  const last = messages.at(-1)
  if (last?.type === 'events') {
    last.events.push(...events)
    last.cursor = event.cursor
  } else {
    messages.push({ type: 'events', events, cursor: event.cursor })
  }
}

function query({ subscribe, companyId }: Opening, cursor: string | null): URLSearchParams {
  const parameters = new URLSearchParams()
  for (const namespace of new Set(subscribe.map((subscription) => subscription.namespace))) parameters.append('namespace', namespace)
  for (const room of namedRooms(subscribe)) parameters.append('room', room)
  if (companyId !== undefined) parameters.set('companyId', companyId)
  if (cursor !== null) parameters.set('cursor', cursor)
  return parameters
}

/** Reads the state that is asked for and says at which cursor it is true, where the session begins; null: none is asked for. */
async function snapshots(opening: Opening, listener: Listener, signal: AbortSignal): Promise<Cursor | null> {
  let begun: Cursor | null = null
  try {
    for (const subscription of opening.subscribe) {
      if (!subscription.snapshot) continue
      for await (const page of statePages(opening, subscription, begun ?? opening.cursor, signal)) {
        if (begun === null) listener.message({ type: 'welcome', cursor: page.cursor })
        begun = page.cursor
        listener.message({ type: 'snapshot', ...page })
      }
    }
    return begun
  } catch (error) {
    const reset = resetOf(error)
    if (!reset) throw error
    listener.message({ type: 'welcome', cursor: reset.resume })
    listener.message({ type: 'reset', ...reset })
    return snapshots({ ...opening, cursor: reset.resume }, listener, signal)
  }
}

/** What the log says of a cursor that it cannot go on from. */
function resetOf(error: unknown): Reset | undefined {
  if (!(error instanceof TailroomError) || (error.code !== 'cursor_expired' && error.code !== 'cursor_diverged')) return undefined
  const { reason, oldest, resume, snapshot } = error.details as unknown as Reset
  return { reason, oldest, resume, snapshot }
}

async function* statePages(
  { url, token, companyId }: Opening, { namespace, rooms = [], snapshot }: Subscription, asOf: string | null, signal: AbortSignal,
): AsyncGenerator<SnapshotMessage> {
  const parameters = new URLSearchParams({ namespace, limit: '500' })
  for (const room of rooms) parameters.append('room', room)
  if (companyId !== undefined) parameters.set('companyId', companyId)
  if (snapshot === 'open') parameters.set('open', 'true')
  if (asOf !== null) parameters.set('asOf', asOf)
  for (;;) {
    const response = await request(`${url}/v1/state?${parameters}`, token, { signal })
    const { states, cursor, more, next } = await response.json() as Omit<SnapshotMessage, 'namespace'> & { next?: string }
    yield { namespace, states, cursor, more }
    if (!more || next === undefined) return
    parameters.set('after', next) // all pages are true at the same cursor
    parameters.delete('asOf')
  }
}

/** The close code that a WebSocket would have had for the same reason. */
function closing(error: unknown): { code: number; reason?: string; message?: string; retryAfterMs?: number } {
  if (!(error instanceof TailroomError) || error.code === 'network') return { code: 1006 }
  const { code: reason, message, retryAfterMs, status = 0 } = error
  const code = codeOf(reason) ?? (status >= 500 || status === 429 ? 1013 : reason.startsWith('http_') ? 1006 : 4103)
  return { code, reason, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) }
}

function codeOf(reason: string | undefined): number | undefined {
  return reason === undefined ? undefined : codes[reason]
}

const codes: Record<string, number> = {
  draining: 1001, too_large: 1009, internal: 1011, overloaded: 1013, unavailable: 1013, rate_limited: 1013, token_expired: 4002,
  unauthenticated: 4100, token_revoked: 4101, forbidden: 4102, disconnected: 4105, invalid_cursor: 4106,
}
