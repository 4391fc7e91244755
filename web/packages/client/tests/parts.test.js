// The small parts: the parser of event streams, cursors, ids, rooms, options, and a driver whose server refuses.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { connect } from '../dist/client.js'
import { compareCursors, isCursor } from '../dist/cursor.js'
import { scopeOf, transports } from '../dist/options.js'
import { namedRooms, subscribed } from '../dist/rooms.js'
import { EventStreamParser } from '../dist/transport/eventstream.js'
import { uuid } from '../dist/uuid.js'

const parse = (pieces) => {
  const parser = new EventStreamParser()
  return pieces.flatMap((piece) => parser.feed(piece))
}

test('event streams: fields, comments, bookmarks', () => {
  assert.deepEqual(parse(['retry: 1500\n\n: beat\n\nid: 1-5\n\nid:1-6\nevent: newOrder\ndata: {"a":\ndata: 1}\n\nevent: x\n\nother\ndata\n\n']), [
    { type: 'retry', ms: 1500 },
    { type: 'comment' },
    { type: 'event', id: '1-5', name: '', data: '' },
    { type: 'event', id: '1-6', name: 'newOrder', data: '{"a":\n1}' },
    { type: 'event', id: undefined, name: '', data: '' },
  ])
})

test('event streams: wherever they are cut, and whatever ends their lines', () => {
  const text = 'retry: 10\n\n:\n\nid: 1-7\nevent: a\ndata: é 1\ndata: 2\n\nid: 1-8\n\n'
  const whole = parse([text])
  fc.assert(fc.property(fc.constantFrom('\n', '\r\n', '\r'), fc.array(fc.nat(text.length * 2)), (ending, cuts) => {
    const stream = text.replaceAll('\n', ending) + (ending === '\r' ? ' ' : '') // a lone CR at the end may be half of a CRLF
    const places = [0, ...cuts.sort((a, b) => a - b), stream.length]
    assert.deepEqual(parse(places.slice(1).map((end, i) => stream.slice(places[i], end))), whole)
  }))
})

test('cursors are ordered by epoch, then by position', () => {
  const sorted = ['1-9', '1-10', '2-3', '10-1']
  assert.deepEqual([...sorted].reverse().sort(compareCursors), sorted)
  for (const text of ['now', 'earliest', '', '1', '1-', '-1', '1-2-3', ' 1-2', null, 12]) assert.ok(!isCursor(text), `${text}`)
  assert.throws(() => compareCursors('now', '1-1'), /no cursor/)
})

test('ids are UUIDs of version 7, of now', () => {
  const id = uuid()
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  assert.ok(Math.abs(parseInt(id.replaceAll('-', '').slice(0, 12), 16) - Date.now()) < 1_000)
  assert.equal(new Set(Array.from({ length: 1_000 }, uuid)).size, 1_000)
})

test('which events a subscription means', () => {
  const event = (namespace, ...rooms) => ({ namespace, rooms })
  const some = [{ namespace: '/a', rooms: ['branch_1', 'branch:2'] }, { namespace: '/b', rooms: [] }]
  assert.deepEqual(namedRooms(some), ['branch:1', 'branch:2'])
  assert.deepEqual(namedRooms([...some, { namespace: '/c' }]), [])
  assert.ok(subscribed(some, event('/a', 'branch:3', 'branch:1')))
  assert.ok(!subscribed(some, event('/a', 'branch:3')))
  assert.ok(!subscribed(some, event('/b', 'branch:1')))
  assert.ok(subscribed([{ namespace: '/c' }], event('/c', 'branch:9')))
})

test('tabs share a cursor when they subscribe to the same', () => {
  const scope = (...list) => scopeOf('https://t', 'c1', list)
  assert.equal(scope({ namespace: '/a', rooms: ['x', 'y'] }, { namespace: '/b' }), scope({ namespace: '/b' }, { namespace: '/a', rooms: ['y', 'x'], snapshot: true }))
  assert.notEqual(scope({ namespace: '/a' }), scope({ namespace: '/a', rooms: [] }))
  assert.notEqual(scope({ namespace: '/a' }), scopeOf('https://t', 'c2', [{ namespace: '/a' }]))
})

test('which transports there are', () => {
  const WebSocket = class {}
  assert.deepEqual(transports({}, WebSocket), ['websocket', 'sse'])
  assert.deepEqual(transports({}, undefined), ['sse'])
  assert.deepEqual(transports({ consumer: 'a' }, WebSocket), ['websocket'])
  assert.throws(() => transports({ consumer: 'a' }, undefined), { code: 'no_websocket' })
  assert.throws(() => transports({ consumer: 'a', transport: 'sse' }, WebSocket), TypeError)
})

test('a snapshot that is refused after a reset is asked for again, with the next hello', { timeout: 30_000 }, async (t) => {
  const page = { type: 'snapshot', namespace: '/orders', states: [], cursor: '1-9', more: false }
  const heard = []
  const again = new Promise((resolve) => {
    /** A server that begins with the state, has a reset behind it, and no state at that moment. */
    class WebSocket {
      readyState = 1
      constructor() { queueMicrotask(() => this.onopen()) }
      close() {}
      tell(...messages) { for (const message of messages) queueMicrotask(() => this.onmessage?.({ data: JSON.stringify(message) })) }
      send(text) {
        const { type, ref, subscribe } = JSON.parse(text)
        heard.push([type, subscribe])
        if (heard.length === 3) return resolve()
        if (type === 'subscribe') return this.tell({ type: 'reply', ref, ok: false, code: 'unavailable', message: 'no state', retryAfterMs: 1 })
        this.tell({ type: 'welcome', cursor: '1-9' }, page, { type: 'reset', reason: 'expired', oldest: '1-20', resume: '1-20', snapshot: '/v1/state' })
      }
    }
    const client = connect({ url: 'http://127.0.0.1:9', token: 'a', subscribe: [{ namespace: '/orders', snapshot: true }], WebSocket })
    t.after(() => client.close())
  })
  await again
  const wanted = [{ namespace: '/orders', snapshot: true }]
  assert.deepEqual(heard, [['hello', wanted], ['subscribe', wanted], ['hello', wanted]])
})
