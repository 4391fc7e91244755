// The TypeScript client in Node, on real instances: over WebSocket, and over
// server-sent events where no WebSocket gets through.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { connect, memoryCursor, TailroomError } from '@tailroom/client'
import { fileCursor } from '@tailroom/client/node'
import { WebSocket } from 'ws'
import { api } from './lib/api.js'
import { Inbox } from './lib/inbox.js'
import { startLine } from './lib/line.js'
import { startInstance, startPostgres } from './lib/process.js'
import { startProxy } from './lib/proxy.js'
import { mint } from './lib/token.js'

const namespaces = ['/orders', '/printing-ws', '/availability']
const token = mint({ companyId: 'c1', branchId: 'b7', userRole: 'web' })
const branch = api(token)
const service = api(mint({ companyId: 'c1', userRole: 'service' }))
const heartbeat = { TAILROOM_HEARTBEAT: '1s' }

let postgres, one, other
before(async () => {
  postgres = await startPostgres()
  one = await startInstance(postgres.dsn, 'one', heartbeat)
  other = await startInstance(postgres.dsn, 'other', heartbeat)
})
after(async () => {
  await Promise.all([one?.stop(), other?.stop()])
  await postgres?.stop()
})

/** A client that keeps what it receives; live when it is returned. */
async function follow(t, options) {
  const client = connect({ token, subscribe: namespaces, WebSocket, ...options })
  const inbox = new Inbox()
  client.onAny((event) => inbox.add(JSON.stringify(event)))
  t.after(() => client.close())
  await phase(client, 'live')
  return { client, inbox }
}

/** Resolves when the client is in that phase, with its status. */
function phase(client, name) {
  return new Promise((resolve) => {
    const off = client.onState((status) => {
      if (status.phase !== name) return
      resolve(status)
      queueMicrotask(() => off())
    })
  })
}

async function open(t, start, ...args) {
  const opened = await start(...args)
  t.after(() => opened.stop())
  return opened
}

let orders = 0
const order = (more = {}) => ({ namespace: '/orders', type: 'newOrder', data: { orderId: `o-${++orders}`, branchId: 'b7', ...more } })
const printer = () => ({ namespace: '/printing-ws', type: 'printerStatusUpdate', data: { printerId: `p-${++orders}`, branchId: 'b7', status: 'online' } })
const product = () => ({ namespace: '/availability', type: 'availabilityUpdate', data: { productId: `q-${++orders}`, branchId: 'b7', available: true } })

for (const transport of ['websocket', 'sse']) {
  test(`${transport}: three namespaces over one connection, without a gap, on whichever instance`, { timeout: 60_000 }, async (t) => {
    const line = await open(t, startLine, one.url)
    const past = (await branch.history(one.url)).length
    const { client, inbox } = await follow(t, { url: line.url, transport })
    const totals = []
    client.on('newOrder', (event) => { totals.push(event.data.total) })

    await service.publishAll(one.url, [order({ total: 2550 }), printer(), product()])
    await inbox.until(3)
    line.cut()
    await phase(client, 'waiting')
    await service.publishAll(one.url, Array.from({ length: 300 }, (_, i) => [order({ total: i }), printer(), product()][i % 3]))
    line.leadTo(other.url)
    await inbox.until(303)
    await service.publish(one.url, order({ total: 1 }))
    await inbox.until(304)

    assert.deepEqual(inbox.received, (await branch.history(one.url)).slice(past), 'what the log has, each once')
    assert.equal(totals.length, inbox.received.filter((envelope) => JSON.parse(envelope).type === 'newOrder').length)
    assert.equal(totals[0], 2550)
    assert.equal(client.status.transport, transport)
    assert.equal(client.cursor, JSON.parse(inbox.received.at(-1)).cursor)
  })

  test(`${transport}: what is published while the line is down is published once`, { timeout: 60_000 }, async (t) => {
    const line = await open(t, startLine, one.url)
    const { client, inbox } = await follow(t, { url: line.url, transport })
    const past = inbox.received.length
    const drafts = Array.from({ length: 20 }, order)
    const logged = (await branch.history(one.url)).length
    line.mute() // what is done, and what its publisher does not hear of
    const receipts = drafts.slice(0, 10).map((draft) => client.publish(draft))
    while ((await branch.history(one.url)).length === logged);
    line.cut()
    receipts.push(...drafts.slice(10).map((draft) => client.publish(draft)))
    await phase(client, 'waiting')
    line.leadTo(other.url)
    const positions = (await Promise.all(receipts)).map(({ position }) => position)
    await inbox.until(past + 20)
    await client.publish(order())
    await inbox.until(past + 21)
    const events = inbox.received.slice(past, -1).map((envelope) => JSON.parse(envelope))
    assert.deepEqual(events.map(({ data }) => data.orderId), drafts.map(({ data }) => data.orderId), 'in the order of the calls')
    assert.deepEqual(events.map(({ position }) => position), positions)
  })

  test(`${transport}: what is refused has its code and what belongs to it`, { timeout: 60_000 }, async (t) => {
    const { client } = await follow(t, { url: one.url, transport })
    await assert.rejects(client.publish({ ...order(), data: { branchId: 'b7' } }), (error) => {
      assert.ok(error instanceof TailroomError)
      assert.deepEqual([error.code, error.retriable, error.details.errors[0].path], ['schema_violation', false, '/orderId'])
      return true
    })
    const first = await client.publish({ ...order(), expectedVersion: 0, id: '01a1ffb0-4c9f-7987-861e-e3997bfe8d39'.replace('861e', transport === 'sse' ? '861f' : '861e') })
    assert.deepEqual([first.version, first.duplicate], [1, false])
    await assert.rejects(client.publish([{ ...order(), stream: first.stream, expectedVersion: 0 }]), { code: 'version_conflict' })
    await assert.rejects(client.publish({ namespace: '/orders', type: 'nothing', data: {} }), { code: 'unknown_type' })
    await assert.rejects(client.publish(order(), { signal: AbortSignal.abort() }), { code: 'aborted' })
  })

  test(`${transport}: a token is replaced before it runs out`, { timeout: 60_000 }, async (t) => {
    let asked = 0
    const exp = Math.floor(Date.now() / 1000) + 6
    const brief = mint({ companyId: 'c1', branchId: 'b7', userRole: 'web', exp })
    const { client, inbox } = await follow(t, { url: one.url, transport, token: async () => ++asked === 1 ? brief : token })
    const phases = []
    client.onState(({ phase }) => { phases.push(phase) })
    await new Promise((resolve) => setTimeout(resolve, exp * 1000 + 500 - Date.now())) // it has run out by now
    if (transport === 'sse') await new Promise((resolve) => client.onState(() => { if (phases.length >= 4) resolve() }))
    await service.publish(one.url, order())
    await inbox.until(1)
    assert.deepEqual(phases, transport === 'websocket' ? ['live'] : ['live', 'connecting', 'replaying', 'live'])
    assert.equal(asked, transport === 'websocket' ? 2 : 3, 'once to renew; a new stream asks as well')
  })

  test(`${transport}: a line that is silent is left within two heartbeats`, { timeout: 60_000 }, async (t) => {
    const slow = await open(t, startInstance, postgres.dsn, 'slow', { TAILROOM_HEARTBEAT: '3s' })
    const line = await open(t, startLine, slow.url)
    const { client, inbox } = await follow(t, { url: line.url, transport })
    line.freeze()
    const begin = performance.now()
    line.leadTo(other.url)
    await phase(client, 'waiting')
    const waited = performance.now() - begin
    await service.publish(one.url, order())
    await inbox.until(1)
    assert.ok(waited < 7_500, `it took ${waited} ms`)
  })

  test(`${transport}: a token that is not believed ends it, and what waits`, { timeout: 60_000 }, async (t) => {
    const client = connect({ url: one.url, token: 'no token', subscribe: namespaces, WebSocket, transport })
    t.after(() => client.close())
    const published = client.publish(order())
    const { error } = await phase(client, 'closed')
    assert.equal(error.code, 'unauthenticated')
    await assert.rejects(published, { code: 'unauthenticated' })
    await assert.rejects(client.publish(order()), { code: 'unauthenticated' })
  })
}

test('a message that is too large fails, and the client goes on', { timeout: 60_000 }, async (t) => {
  const narrow = await open(t, startInstance, postgres.dsn, 'narrow', { TAILROOM_MAX_MESSAGE_BYTES: '64KiB', TAILROOM_MAX_EVENT_BYTES: '32KiB' })
  const { client, inbox } = await follow(t, { url: narrow.url, transport: 'websocket' })
  const waiting = phase(client, 'waiting')
  const [large, small] = [client.publish(Array.from({ length: 1_000 }, order)), client.publish(order())]
  await assert.rejects(large, (error) => {
    assert.deepEqual([error.code, error.details.limit], ['too_large', 65_536])
    return true
  })
  assert.equal((await waiting).error.code, 'too_large')
  const { id } = await small
  await inbox.until(1)
  assert.equal(JSON.parse(inbox.received[0]).id, id)
})

test('a proxy that refuses the upgrade: server-sent events, and publishing over HTTP', { timeout: 60_000 }, async (t) => {
  const proxy = await open(t, startProxy, one.url)
  const { client, inbox } = await follow(t, { url: proxy.url })
  assert.equal(client.status.transport, 'sse')
  assert.ok(proxy.seen.upgrades >= 2, 'WebSocket was tried')
  const receipt = await client.publish(order())
  await inbox.until(1)
  assert.equal(JSON.parse(inbox.received[0]).id, receipt.id)
  assert.ok(proxy.seen.requests.includes('POST /v1/events'))
})

test('rooms differ by namespace, also over server-sent events, which have one list for all', { timeout: 60_000 }, async (t) => {
  const subscribe = [{ namespace: '/orders', rooms: ['branch_b7'] }, { namespace: '/availability', rooms: ['company:c1'] }]
  for (const transport of ['websocket', 'sse']) {
    const { inbox } = await follow(t, { url: one.url, transport, subscribe })
    const wanted = [
      await service.publish(one.url, order()),
      (await service.publish(one.url, { ...order(), rooms: ['company:c1'] }), await service.publish(one.url, product()),
        await service.publish(one.url, { ...product(), rooms: ['company:c1'] })),
      await service.publish(one.url, order()),
    ]
    await inbox.until(3)
    assert.deepEqual(inbox.received.map((envelope) => JSON.parse(envelope).position), wanted.map(({ position }) => position))
  }
})

test('without a WebSocket of its own, Node says what to do', { timeout: 60_000 }, async (t) => {
  const bare = { url: one.url, WebSocket: undefined }
  if (!globalThis.WebSocket) {
    assert.throws(() => connect({ ...bare, token, subscribe: namespaces, transport: 'websocket' }), { code: 'no_websocket', message: /npm package ws/ })
    assert.throws(() => connect({ ...bare, token, subscribe: namespaces, consumer: 'agent' }), { code: 'no_websocket' })
  }
  const { client } = await follow(t, bare)
  assert.equal(client.status.transport, globalThis.WebSocket ? 'websocket' : 'sse')
})

test('an application that is slow loses nothing, and what waits is bounded', { timeout: 60_000 }, async (t) => {
  const { cursor } = (await service.publishAll(one.url, [order()]))[0]
  await service.publishAll(one.url, Array.from({ length: 9_000 }, order))
  const expected = (await branch.history(one.url)).length
  const said = []
  class Recorded extends WebSocket {
    send(text) {
      said.push(JSON.parse(text))
      super.send(text)
    }
  }
  const client = connect({ url: one.url, token, subscribe: ['/orders'], WebSocket: Recorded, from: cursor })
  t.after(() => client.close())
  const phases = new Set()
  client.onState(({ phase }) => { phases.add(phase) })
  const inbox = new Inbox()
  let busy = 0
  client.on('newOrder', async (event) => {
    assert.equal(++busy, 1, 'one after the other')
    if (inbox.received.length === 0) await phase(client, 'holding')
    await undefined
    busy--
    inbox.add(event.position)
  })
  await inbox.until(9_000)
  assert.ok(phases.has('holding'))
  assert.deepEqual(said.find(({ type }) => type === 'unsubscribe').unsubscribe, [{ namespace: '/orders' }])
  assert.equal(new Set(inbox.received).size, 9_000)
  assert.ok(inbox.received.every((position, i) => i === 0 || position > inbox.received[i - 1]))
  assert.ok(expected > 0)
})

for (const transport of ['websocket', 'sse']) {
  test(`${transport}: a handler waits for its own publish while more is there than may wait`, { timeout: 60_000 }, async (t) => {
    const { cursor } = (await service.publishAll(one.url, [order()]))[0]
    const jobs = await service.publishAll(one.url, Array.from({ length: 6_000 }, order))
    const client = connect({ url: one.url, token: mint({ companyId: 'c1', userRole: 'service' }), subscribe: ['/orders'], WebSocket, transport, from: cursor })
    t.after(() => client.close())
    const inbox = new Inbox()
    client.on('newOrder', async (event) => {
      if (inbox.received.length === 0) await phase(client, 'holding')
      if (inbox.received.length % 100 === 0) await client.publish(printer())
      inbox.add(event.position)
    })
    await inbox.until(6_000)
    assert.deepEqual(inbox.received, jobs.map(({ position }) => position))
  })
}

test('a consumer that is behind keeps its name, and what it has done is known', { timeout: 60_000 }, async (t) => {
  const agent = mint({ companyId: 'c1', userRole: 'service', sub: 'agent' })
  const { cursor } = (await service.publishAll(one.url, [order()]))[0]
  await service.publishAll(one.url, Array.from({ length: 6_000 }, order))
  const client = connect({ url: one.url, token: agent, subscribe: ['/orders'], WebSocket, consumer: 'slow-agent', from: cursor })
  t.after(() => client.close())
  const known = async () => {
    const response = await fetch(`${one.url}/v1/consumers?name=slow-agent`, { headers: { Authorization: `Bearer ${agent}` } })
    return (await response.json()).consumers.find(({ name }) => name === 'slow-agent')
  }
  const seen = await new Promise((resolve, reject) => {
    let first
    client.on('newOrder', async (event) => {
      if (!first) {
        first = event
        return phase(client, 'holding')
      }
      if (event.position !== first.position + 1) return
      let consumer
      do consumer = await known().catch(reject)
      while (consumer?.cursor !== first.cursor)
      resolve(consumer)
    })
  })
  assert.equal(client.status.phase, 'holding')
  assert.deepEqual([seen.connected, seen.lagEvents], [true, 5_999])
})

test('a kept cursor: the next client goes on where this one was done', { timeout: 60_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tailroom-'))
  t.after(() => rm(folder, { recursive: true }))
  const path = join(folder, 'cursor')
  for (const storage of [() => fileCursor(path), (kept => () => kept)(memoryCursor())]) {
    const begin = (options) => connect({ url: one.url, token, subscribe: ['/orders'], WebSocket, cursor: storage(), ...options })
    const first = begin()
    await phase(first, 'live')
    await first.close()
    const receipts = await service.publishAll(one.url, Array.from({ length: 10 }, order))

    // It is closed while it handles the fourth: that one is done, and the fifth is not begun.
    const second = begin()
    const handled = []
    await new Promise((resolve) => second.on('newOrder', async (event) => {
      handled.push(event.position)
      if (handled.length < 4) return
      resolve()
      await new Promise((done) => setTimeout(done, 50))
    }))
    await second.close()

    // It acknowledges by hand, two of what it gets.
    const third = begin({ ack: 'manual' })
    const inbox = new Inbox()
    third.on('newOrder', (event) => {
      inbox.add(event.position)
      if (inbox.received.length === 2) third.ack(event)
    })
    await inbox.until(6)
    await third.close()

    const fourth = begin()
    const rest = new Inbox()
    fourth.on('newOrder', (event) => rest.add(event.position))
    await rest.until(4)
    await fourth.close()
    const positions = receipts.map(({ position }) => position)
    assert.deepEqual([handled, inbox.received, rest.received], [positions.slice(0, 4), positions.slice(4), positions.slice(6)])
  }
  assert.match(await readFile(path, 'utf8'), /^\d+-\d+\n$/)
  assert.deepEqual(await readdir(folder), ['cursor'])

  await writeFile(path, 'nonsense')
  const broken = connect({ url: one.url, token, subscribe: ['/orders'], WebSocket, cursor: fileCursor(path) })
  assert.equal((await phase(broken, 'closed')).error.code, 'storage')
})

test('what a handler throws ends the process, and the event comes again', { timeout: 60_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tailroom-'))
  t.after(() => rm(folder, { recursive: true }))
  const [{ cursor }, poison] = await service.publishAll(one.url, [order(), order({ note: 'poison' }), order()])
  await writeFile(join(folder, 'cursor'), cursor)
  const program = `
    import { connect } from '@tailroom/client'
    import { fileCursor } from '@tailroom/client/node'
    const client = connect({ url: '${one.url}', token: '${token}', subscribe: ['/orders'], cursor: fileCursor('${join(folder, 'cursor')}') })
    if (process.argv.includes('careful')) client.onError((error) => console.log('error:', error.message))
    client.on('newOrder', async (event) => {
      console.log(event.position)
      if (event.data.note === 'poison') throw new Error('spilt')
      if (process.argv.includes('careful')) void client.close()
    })`
  const run = async (...args) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], cwd: import.meta.dirname })
    const output = child.stdout.toArray()
    const errors = child.stderr.toArray()
    const [code] = await once(child, 'exit')
    return [code, Buffer.concat(await output).toString().trim().split('\n'), Buffer.concat(await errors).toString()]
  }
  for (let i = 0; i < 2; i++) {
    const [code, output, errors] = await run()
    assert.deepEqual([code, output], [1, [`${poison.position}`]])
    assert.match(errors, /spilt/)
  }
  const [code, output] = await run('careful')
  assert.deepEqual([code, output], [0, [`${poison.position}`, 'error: spilt', `${poison.position + 1}`]])
})
