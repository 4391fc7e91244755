// What a page finds that speaks Socket.IO, with npm's socket.io-client as it is: connecting, rights, publishing, requests,
// and how a connection ends. Each test is a company of its own; they run at the same time on the same instances.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Manager } from 'socket.io-client'
import { startBalancer } from './lib/balancer.js'
import { startLine } from './lib/line.js'
import { startInstance, startPostgres } from './lib/process.js'
import { eventually, follow, newCompany, quick, watch, watchful } from './lib/socketio.js'

const root = new URL('../../', import.meta.url)
const settings = { ...watchful, TAILROOM_DATABASE_CONNS: '2', CORS_ORIGINS: 'https://pos.example,file://,null' }

let postgres, one, other, keeping, folder
before(async () => {
  postgres = await startPostgres()
  // The catalogue as it is built in, but nobody waits half a minute for a printer.
  folder = await mkdtemp(join(tmpdir(), 'tailroom-web-'))
  const catalogue = await readFile(new URL('internal/catalog/default.yaml', root), 'utf8')
  settings.CATALOG_FILE = join(folder, 'catalogue.yaml')
  await writeFile(settings.CATALOG_FILE, catalogue.replace('timeout: 30s', 'timeout: 3s'))
  one = await startInstance(postgres.dsn, 'one', settings)
  other = await startInstance(postgres.dsn, 'other', settings)
  keeping = await startInstance(postgres.dsn, 'keeping', {
    ...settings, TAILROOM_HEARTBEAT: '1h', SOCKETIO_TOKEN_EXPIRY: 'keep', TAILROOM_SOCKETIO_TRAILING: '/orders',
  })
})
after(async () => {
  await Promise.all([one?.stop(), other?.stop(), keeping?.stop()])
  await postgres?.stop()
  if (folder) await rm(folder, { recursive: true })
})

const transports = { websocket: { transports: ['websocket'] }, polling: { transports: ['polling'] } }
const now = () => Math.floor(Date.now() / 1000)
const order = (orderId, more) => ({ orderId, branchId: 'b7', ...more })

const test = (name, check) => it(name, { timeout: 60_000 }, check)

async function newLine(t, url) {
  const line = await startLine(url)
  t.after(() => line.stop())
  return line
}

describe('Socket.IO', { concurrency: 8 }, () => {
  // The old platform's page: three namespaces, each with the token of its own asking.
  const published = {
    '/orders': ['newOrder', (n) => order(`o-${n}`)],
    '/printing-ws': ['printerStatusUpdate', (n) => ({ printerId: `p-${n}`, branchId: 'b7', status: 'online' })],
    '/availability': ['newAlert', (n) => ({ message: `a-${n}` })],
  }
  for (const connections of [1, 3]) {
    test(`three namespaces over ${connections} connection${connections > 1 ? 's' : ''}, which are cut`, async (t) => {
      const company = newCompany()
      const line = await newLine(t, one.url)
      const managers = Array.from({ length: connections }, () => new Manager(line.url, quick))
      const pages = Object.entries(published).map(([namespace, [type, data]], i) => {
        const page = { namespace, type, data, asked: 0, handled: [] }
        const auth = (give) => {
          page.asked++
          give({ token: `Bearer ${company.token()}` })
        }
        Object.assign(page, watch(t, managers[i % connections].socket(namespace, { auth })))
        // A handler that was written for a NestJS gateway, which may or may not have wanted an ack.
        page.socket.on(type, (...args) => {
          page.handled.push(args)
          const [, ack] = args
          ack?.()
        })
        return page
      })
      const all = (count) => eventually(() => pages.every((page) => page.handled.length >= count))
      const publish = (n) => Promise.all(pages.map(({ namespace, type, data }) => company.publish(one.url, { namespace, type, data: data(n) })))

      await eventually(() => pages.every(({ connects }) => connects.length === 1))
      assert.ok(pages.every(({ connects: [{ recovered }] }) => !recovered), 'the first time there is nothing to recover')
      await publish(1)
      await all(1)
      line.cut()
      await publish(2)
      await eventually(() => pages.every(({ ends }) => ends.length === 1))
      line.leadTo(other.url)
      await all(2)
      await publish(3)
      await all(3)
      for (const page of pages) {
        assert.deepEqual(page.handled, [1, 2, 3].map((n) => [page.data(n)]), `${page.namespace}: each event once, its data the only argument`)
        assert.equal(page.asked, 2, 'auth is asked at each connect')
        assert.deepEqual(page.connects.map(({ recovered }) => recovered), [false, true])
        assert.equal(page.connects[1].id, page.connects[0].id)
        assert.equal(page.ends.length, 1)
        assert.ok(page.ends[0].active)
      }
      const ids = new Set(pages.map(({ connects: [{ id }] }) => id))
      assert.equal(ids.size, 3, 'each namespace has an id of its own')
    })
  }

  test('long-polling, which becomes a WebSocket', async (t) => {
    const company = newCompany()
    const page = follow(t, one.url, '/orders', { token: company.token() })
    const transports = []
    page.socket.io.on('open', () => {
      transports.push(page.socket.io.engine.transport.name)
      page.socket.io.engine.on('upgrade', ({ name }) => transports.push(name))
    })
    await page.connected()
    const publishing = company.order(other.url, ...Array.from({ length: 100 }, (_, i) => `o-${i}`))
    await eventually(() => transports.join() === 'polling,websocket')
    await publishing
    await page.received(100)
    assert.deepEqual(page.orders, Array.from({ length: 100 }, (_, i) => `o-${i}`))
    assert.deepEqual(page.ends, [])
    // Operators see it change, at whatever instance.
    const { instance, transport, rooms, engine } = await eventually(async () =>
      (await company.connections(other.url)).find(({ engine }) => engine.transport === 'websocket'))
    assert.deepEqual({ instance, transport, rooms, engine }, {
      instance: 'one', transport: 'socketio', rooms: { '/orders': ['branch:b7', `company:${company.companyId}`] },
      engine: { transport: 'websocket', version: 4 },
    })
  })

  for (const [name, transport] of Object.entries(transports)) {
    test(`${name}: emit publishes, and the ack says what became of it`, async (t) => {
      const company = newCompany()
      const page = follow(t, one.url, '/orders', { token: company.token(), ...transport })
      const elsewhere = follow(t, other.url, '/orders', { token: company.token(), ...transport })
      await elsewhere.connected()
      const ack = await page.socket.timeout(20_000).emitWithAck('newOrder', order('o-1', { correlationId: 'basket-1', id: 'of the order' }))
      assert.deepEqual(Object.keys(ack).sort(), ['id', 'ok', 'position'])
      assert.equal(ack.ok, true)
      const [envelope] = await company.history(one.url)
      assert.deepEqual([envelope.id, envelope.position, envelope.correlationId], [ack.id, ack.position, 'basket-1'])
      assert.deepEqual(await elsewhere.heard('newOrder'), [envelope.data])

      const unfit = await page.socket.emitWithAck('newOrder', { branchId: 'b7' })
      assert.deepEqual([unfit.ok, unfit.code, typeof unfit.message], [false, 'schema_violation', 'string'])
      assert.ok(unfit.errors.length > 0)
      assert.equal((await page.socket.emitWithAck('printer:test', order('o-2'))).code, 'unknown_type')
      const foreign = await page.socket.emitWithAck('newOrder', { orderId: 'o-3', branchId: 'b8' })
      assert.deepEqual([foreign.ok, foreign.code], [false, 'forbidden'])
      assert.deepEqual(page.events.filter(([type]) => type === 'exception'), [])

      page.socket.emit('newOrder', { branchId: 'b7' }) // nobody waits
      const [exception] = await page.heard('exception')
      assert.deepEqual([exception.status, exception.code, typeof exception.message], ['error', 'schema_violation', 'string'])
      page.socket.emit('newOrder', order('o-4'))
      await page.until(() => page.orders.includes('o-4'))
      assert.deepEqual((await company.history(one.url)).map(({ data }) => data.orderId), ['o-1', 'o-4'])
      assert.deepEqual(page.ends, [])
    })

    test(`${name}: what is emitted with bytes in it is logged as text`, async (t) => {
      const company = newCompany()
      const page = follow(t, one.url, '/orders', { token: company.token(), ...transport })
      const note = Buffer.from('no onions')
      const { ok } = await page.socket.emitWithAck('newOrder', order('o-1', { note, lines: [{ note: new Uint8Array([1, 2, 3]) }] }))
      assert.ok(ok)
      const { data } = (await company.history(one.url))[0]
      assert.deepEqual([data.note, data.lines], [note.toString('base64'), [{ note: 'AQID' }]])
      assert.deepEqual(await page.heard('newOrder'), [data])
    })

    test(`${name}: the token may come in the header`, async (t) => {
      const company = newCompany()
      const extraHeaders = { Authorization: `Bearer ${company.token()}` }
      const page = follow(t, one.url, '/orders', { auth: {}, extraHeaders, ...transport })
      await page.connected()
      await company.order(one.url, 'o-1')
      await page.received(1)
    })

    test(`${name}: pages of foreign origins are refused, and file:// and null can be listed`, async (t) => {
      const company = newCompany()
      for (const Origin of ['file://', 'null', 'https://pos.example', new URL(one.url).origin]) {
        await follow(t, one.url, '/orders', { token: company.token(), extraHeaders: { Origin }, ...transport }).connected()
      }
      const foreign = follow(t, one.url, '/orders', { token: company.token(), extraHeaders: { Origin: 'https://evil.example' }, ...transport })
      const { message, active } = await foreign.until(() => foreign.refusals[0])
      assert.deepEqual([message, active], [name === 'polling' ? 'xhr poll error' : 'websocket error', true])
      assert.deepEqual(foreign.connects, [])
    })

    test(`${name}: a refusal is a connect_error with a code, and final`, async (t) => {
      const company = newCompany()
      const expected = {
        unauthenticated: ['garbage', undefined, `${company.token().slice(0, -4)}AAAA`],
        token_expired: [company.token({ exp: now() - 60 })],
        invalid_parameter: [company.token({ companyId: '*', userRole: 'service', branchId: undefined })],
      }
      for (const [code, tokens] of Object.entries(expected)) {
        for (const token of tokens) {
          const page = follow(t, one.url, '/orders', { token, ...transport })
          const { data, message, active } = await page.until(() => page.refusals[0])
          assert.deepEqual([data.code, active], [code, false], message)
          assert.ok(message.length > 10 && !(token && message.includes(token)))
          assert.deepEqual([page.connects, page.ends], [[], []])
        }
      }
      const astray = follow(t, one.url, '/orders', { auth: { token: company.token(), cursor: 'yesterday' }, ...transport })
      assert.equal((await astray.until(() => astray.refusals[0])).data.code, 'invalid_cursor')

      // The page has got a new token, and calls connect().
      const page = follow(t, one.url, '/orders', { token: company.token({ exp: now() - 60 }), ...transport })
      await page.until(() => page.refusals[0])
      page.socket.auth = { token: company.token() }
      page.socket.connect()
      await page.connected()
    })

    test(`${name}: a namespace that is not there leaves the others alone`, async (t) => {
      const company = newCompany()
      const manager = new Manager(one.url, { ...quick, ...transport })
      const auth = { token: company.token() }
      const page = watch(t, manager.socket('/orders', { auth }))
      const nowhere = watch(t, manager.socket('/nowhere', { auth }))
      const system = watch(t, manager.socket('/system', { auth }))
      for (const refused of [nowhere, system]) {
        const { message, data, active } = await refused.until(() => refused.refusals[0])
        assert.deepEqual([message, data, active], ['Invalid namespace', undefined, false])
      }
      await page.connected()
      assert.equal((await page.socket.emitWithAck('newOrder', order('o-1'))).ok, true)
      assert.deepEqual([page.connects.length, page.ends], [1, []])
    })

    test(`${name}: join and leave, within what the token covers`, async (t) => {
      const company = newCompany()
      const page = follow(t, one.url, '/availability', { token: company.token({ branchId: ['b7', 'b8'] }), ...transport })
      await page.connected()
      const say = (room, message) => company.publish(one.url, { namespace: '/availability', type: 'newAlert', rooms: [room], data: { message } })
      const emit = (...args) => page.socket.emitWithAck(...args)

      assert.deepEqual(await emit('leave', { room: 'branch:b8' }), { ok: true, rooms: ['branch:b7', `company:${company.companyId}`] })
      await say('branch:b8', 'unheard')
      await say('branch:b7', '1')
      await page.received(1)
      const joined = await emit('join', { room: 'branch_b8' })
      assert.deepEqual([joined.ok, joined.rooms], [true, ['branch:b7', 'branch:b8', `company:${company.companyId}`]])
      await say('branch:b8', '2')
      await page.received(2)
      assert.equal((await emit('leave', 'branch_b7')).ok, true)
      await say('branch:b7', 'unheard')
      await say('branch:b8', '3')
      await page.received(3)
      assert.equal((await emit('join', { room: 'branch:b9' })).code, 'forbidden')
      assert.equal((await emit('join', { room: 'kitchen' })).code, 'invalid_room')
      page.socket.emit('join', { room: 'branch:b9' })
      assert.equal((await page.heard('exception'))[0].code, 'forbidden')
      assert.deepEqual(page.events.map(([, { message }]) => message).slice(0, 3), ['1', '2', '3'])
    })

    test(`${name}: a test page, answered by the branch's app on another instance`, async (t) => {
      const company = newCompany()
      const till = follow(t, one.url, '/printing-ws', { token: company.token({ sub: 'till' }), ...transport })
      const app = follow(t, other.url, '/printing-ws', { token: company.token({ sub: 'app', userRole: 'desktop_app' }), ...transport })
      app.socket.on('printer:test', ({ printerId, correlationId }) => {
        if (printerId === 'none') return
        app.socket.emit('printer:test:result', { printerId, correlationId, branchId: 'b7', success: true })
      })
      await app.connected()
      const result = await till.socket.emitWithAck('printer:test', { printerId: 'kitchen', branchId: 'b7', correlationId: 'test-1' })
      assert.deepEqual(result, { printerId: 'kitchen', correlationId: 'test-1', branchId: 'b7', success: true })

      const silence = await till.socket.emitWithAck('printer:test', { printerId: 'none', branchId: 'b7', correlationId: 'test-2' })
      assert.deepEqual([silence.ok, silence.code, silence.correlationId, typeof silence.id, typeof silence.message],
        [false, 'reply_timeout', 'test-2', 'string', 'string'])
      const unnamed = await till.socket.emitWithAck('printer:test', { printerId: 'none', branchId: 'b7' })
      assert.deepEqual([unnamed.code, unnamed.correlationId], ['reply_timeout', unnamed.id])

      // The role may not ask, so nobody is asked.
      const refused = await app.socket.emitWithAck('printer:test', { printerId: 'kitchen', branchId: 'b7' })
      assert.deepEqual([refused.ok, refused.code], [false, 'forbidden'])
      assert.equal(app.events.filter(([type]) => type === 'printer:test').length, 3)
    })

    test(`${name}: what is emitted again with an eventId is one event`, async (t) => {
      const company = newCompany()
      const line = await newLine(t, one.url)
      const page = follow(t, line.url, '/orders', { token: company.token(), retries: 1000, ackTimeout: 200, ...transport })
      await page.connected()
      const eventId = '0192f0c4-7a11-7c3e-9f52-3c1d2b4a5e60'
      let ack
      line.mute() // it arrives, but no ack comes back
      page.socket.emit('newOrder', order('o-1', { eventId }), (error, answer) => { ack = answer })
      const [{ id, position }] = await eventually(async () => {
        const history = await company.history(one.url)
        return history.length > 0 && history
      })
      assert.equal(id, eventId)
      line.cut()
      await page.lost()
      line.leadTo(other.url)
      await eventually(() => ack)
      assert.deepEqual(ack, { ok: true, id, position, duplicate: true })
      assert.equal((await company.history(one.url)).length, 1)
    })

    test(`${name}: a token expires, and nobody notices when auth is a function`, async (t) => {
      const company = newCompany()
      let asked = 0
      const auth = (give) => give({ token: company.token(asked++ ? {} : { exp: now() + 8 }) })
      const page = follow(t, one.url, '/orders', { auth, ...transport })
      await page.connected()
      await company.order(one.url, 'o-1')
      const [warning] = await page.heard('exception')
      assert.deepEqual([warning.status, warning.code, typeof warning.message], ['error', 'token_expiring', 'string'])
      assert.ok(Date.parse(warning.expiresAt) / 1000 - now() < 9)
      const { reason, active } = await page.until(() => page.ends[0])
      assert.deepEqual([reason, active], ['transport close', true])
      await company.order(one.url, 'o-2')
      await page.until(() => page.orders.includes('o-2'))
      assert.deepEqual(page.connects.map(({ recovered }) => recovered), [false, true])
      assert.deepEqual(page.orders.filter(Boolean), ['o-1', 'o-2'])
    })

    test(`${name}: revoked`, async (t) => {
      const company = newCompany()
      const page = follow(t, one.url, '/orders', { token: company.token({ sub: 'thief' }), ...transport })
      await page.connected()
      await company.operate(other.url, '/v1/revocations', { subject: 'thief' })
      const { reason, active } = await page.until(() => page.ends[0])
      assert.deepEqual([reason, active], ['io server disconnect', false])
      assert.equal((await page.heard('$goaway'))[0].reason, 'token_revoked')
      page.socket.connect()
      const refusal = await page.until(() => page.refusals[0])
      assert.deepEqual([refusal.data.code, refusal.active], ['token_revoked', false])
    })

    test(`${name}: an operator ends one namespace, and the others stay`, async (t) => {
      const company = newCompany()
      const manager = new Manager(one.url, { ...quick, ...transport })
      const page = watch(t, manager.socket('/orders', { auth: { token: company.token({ sub: 'noisy' }) } }))
      const quiet = watch(t, manager.socket('/availability', { auth: { token: company.token({ sub: 'quiet' }) } }))
      await Promise.all([page.connected(), quiet.connected()])
      await company.operate(other.url, '/v1/disconnections', { subject: 'noisy', reason: 'floods the kitchen' })
      const { reason, active } = await page.until(() => page.ends[0])
      assert.deepEqual([reason, active], ['io server disconnect', false])
      assert.equal((await page.heard('$goaway'))[0].reason, 'disconnected')
      await company.publish(one.url, { namespace: '/availability', type: 'newAlert', data: { message: 'still here' } })
      await quiet.received(1)
      assert.deepEqual([quiet.connects.length, quiet.ends], [1, []])
    })

    test(`${name}: an instance drains`, async (t) => {
      const company = newCompany()
      const leaving = await startInstance(postgres.dsn, `leaving-${name}`, { ...settings, TAILROOM_DRAIN_TIMEOUT: '5s' })
      t.after(() => leaving.kill())
      const balancer = await startBalancer(leaving.url)
      t.after(() => balancer.stop())
      const page = follow(t, balancer.url, '/orders', { token: company.token(), ...transport })
      await page.live()
      await company.order(one.url, 'o-1')
      await page.received(1)
      balancer.leadTo(one.url, other.url)
      const gone = leaving.stop()
      const [goaway] = await page.heard('$goaway')
      assert.equal(goaway.reason, 'draining')
      await company.order(one.url, 'o-2')
      await page.until(() => page.orders.includes('o-2'))
      await gone
      await company.order(one.url, 'o-3')
      await page.until(() => page.orders.includes('o-3'))
      assert.deepEqual(page.ends, [{ reason: 'transport close', active: true }])
      assert.deepEqual(page.connects.map(({ recovered }) => recovered), [false, true])
      assert.deepEqual(page.orders, ['o-1', 'o-2', 'o-3'])
      assert.deepEqual(page.refusals, [], 'it was never told to stay away')
    })
  }

  test('a static token that expires: the page is told, and it is final; with SOCKETIO_TOKEN_EXPIRY=keep it stays', async (t) => {
    const company = newCompany()
    const token = company.token({ exp: now() - 22 }) // clocks may be 30 seconds apart
    const [page, kept] = [one, keeping].map(({ url }) => follow(t, url, '/orders', { token, transports: ['websocket'] }))
    await Promise.all([page.connected(), kept.connected()])
    const { data, active } = await page.until(() => page.refusals[0])
    assert.deepEqual([data.code, active], ['token_expired', false])
    assert.deepEqual(page.ends, [{ reason: 'transport close', active: true }])

    const late = follow(t, keeping.url, '/orders', { token })
    assert.equal((await late.until(() => late.refusals[0])).data.code, 'token_expired')
    assert.equal((await kept.socket.emitWithAck('newOrder', order('o-1'))).ok, true)
    await kept.until(() => kept.orders.includes('o-1'))
    assert.deepEqual([kept.connects.length, kept.ends], [1, []])
    await company.operate(one.url, '/v1/revocations', { subject: 'web-tests' })
    assert.deepEqual(await kept.until(() => kept.ends[0]), { reason: 'io server disconnect', active: false })
  })

  test('trailing: the offset is the last argument of each event', async (t) => {
    const company = newCompany()
    const line = await newLine(t, keeping.url)
    const page = follow(t, line.url, '/orders', { token: company.token() })
    const offsets = []
    page.socket.on('newOrder', (data, offset) => offsets.push(offset))
    await page.live()
    await company.order(one.url, 'o-1', 'o-2')
    await page.received(2)
    assert.ok(offsets.every((offset) => /^p\d+-\d+$/.test(offset)), offsets.join())
    assert.equal(new Set(offsets).size, 2)
    line.cut()
    await company.order(one.url, 'o-3')
    await page.lost()
    line.leadTo(keeping.url)
    await page.received(3)
    assert.deepEqual(page.orders, ['o-1', 'o-2', 'o-3'])
    assert.deepEqual(page.connects.map(({ recovered }) => recovered), [false, true])
    assert.deepEqual(page.news.filter(([type]) => type === '$o'), [])
  })

  test('what travels is what Engine.IO and Socket.IO say, to the byte', async (t) => {
    const company = newCompany()
    const get = (query, init, path = '/socket.io/') => fetch(`${one.url}${path}?${query}`, init)
    const errors = [
      ['EIO=4&transport=pigeon', 'GET', 400, '{"code":0,"message":"Transport unknown"}'],
      ['EIO=4', 'GET', 400, '{"code":0,"message":"Transport unknown"}'],
      ['EIO=4&transport=polling&sid=unknown', 'GET', 400, '{"code":1,"message":"Session ID unknown"}'],
      ['EIO=4&transport=polling&sid=unknown', 'POST', 400, '{"code":1,"message":"Session ID unknown"}'],
      ['EIO=4&transport=polling', 'POST', 400, '{"code":2,"message":"Bad handshake method"}'],
      ['EIO=4&transport=websocket', 'GET', 400, '{"code":3,"message":"Bad request"}'],
      ['EIO=3&transport=polling', 'GET', 400, '{"code":5,"message":"Unsupported protocol version"}'],
      ['transport=polling', 'GET', 400, '{"code":5,"message":"Unsupported protocol version"}'],
    ]
    for (const [query, method, status, body] of errors) {
      const response = await get(query, { method })
      assert.deepEqual([response.status, response.headers.get('content-type'), await response.text()], [status, 'application/json', body], `${method} ${query}`)
    }

    const origin = { Origin: 'https://pos.example' }
    const opened = await get('EIO=4&transport=polling', { headers: origin }, '/socket.io')
    assert.deepEqual(['content-type', 'cache-control', 'access-control-allow-origin', 'access-control-allow-credentials'].map((name) => opened.headers.get(name)),
      ['text/plain; charset=UTF-8', 'no-store', 'https://pos.example', 'true'])
    assert.match(opened.headers.get('vary'), /Origin/)
    const open = await opened.text()
    assert.equal(open[0], '0')
    const { sid, ...rest } = JSON.parse(open.slice(1))
    assert.deepEqual(rest, { upgrades: ['websocket'], pingInterval: 500, pingTimeout: 4000, maxPayload: 4 << 20 })
    const session = `EIO=4&transport=polling&sid=${sid}`
    const post = (body) => get(session, { method: 'POST', body })
    const packets = []
    const heard = async (pattern, pong = true) => {
      while (!packets.some((packet) => pattern.test(packet))) {
        const came = (await (await get(session)).text()).split('\x1e')
        if (pong && came.includes('2')) await post('3')
        packets.push(...came)
      }
      return packets.find((packet) => pattern.test(packet))
    }

    // A namespace that is not there, then one that is, in one payload.
    const said = await post(`40/nowhere,\x1e40/orders,${JSON.stringify({ token: company.token() })}`)
    assert.deepEqual([said.status, said.headers.get('content-type'), await said.text()], [200, 'text/html', 'ok'])
    assert.equal(await heard(/nowhere/), '44/nowhere,{"message":"Invalid namespace"}')
    const connected = await heard(/^40/)
    const { sid: id, pid, ...nothing } = JSON.parse(connected.slice('40/orders,'.length))
    assert.match(id, /^[\w-]{20}$/)
    assert.deepEqual([typeof pid, nothing], ['string', {}])
    assert.ok(!connected.includes(sid), 'the connection\'s secret is not the socket\'s id')
    assert.ok(packets.slice(0, packets.indexOf(connected)).every((packet) => !packet.startsWith('42')), 'CONNECT comes first')

    await post('42/orders,7["newOrder",{"orderId":"o-1","branchId":"b7"}]')
    const ack = JSON.parse((await heard(/^43/)).slice('43/orders,7'.length))
    assert.deepEqual([ack.length, Object.keys(ack[0]).sort()], [1, ['id', 'ok', 'position']])
    const event = await heard(/newOrder/)
    const [{ data }] = await company.history(one.url)
    assert.equal(event, `42/orders,["newOrder",${JSON.stringify(data)}]`)
    assert.match(await heard(/"\$o"/), /^42\/orders,\["\$o","p\d+-\d+"\]$/)

    // Who leaves gets a clean end, also of what hangs.
    const [left] = await Promise.all([post('1'), heard(/^6$/, false)])
    assert.equal(left.status, 200)
    await eventually(async () => (await get(session)).status === 400)
  })

  test('a preflight is answered', async () => {
    const ask = (Origin) => fetch(`${one.url}/socket.io/?EIO=4&transport=polling`, {
      method: 'OPTIONS', headers: { Origin, 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'authorization,x-till' },
    })
    const { status, headers } = await ask('https://pos.example')
    assert.equal(status, 204)
    assert.equal(headers.get('access-control-allow-origin'), 'https://pos.example')
    assert.equal(headers.get('access-control-allow-headers'), 'authorization,x-till')
    assert.match(headers.get('access-control-allow-methods'), /POST/)
    assert.equal((await ask('https://evil.example')).headers.get('access-control-allow-origin'), null)
  })
})
