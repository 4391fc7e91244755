// Whatever happens to a line, an instance or a program, nobody who speaks Socket.IO misses an event; with npm's
// socket.io-client as it is. Each test is a company of its own; they run at the same time on the same instances.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Manager } from 'socket.io-client'
import { startBalancer } from './lib/balancer.js'
import { followEvents, followSocket } from './lib/clients.js'
import { startLine } from './lib/line.js'
import { startInstance, startPostgres } from './lib/process.js'
import { startProxy } from './lib/proxy.js'
import { eventually, follow, newCompany, quick, watch, watchful } from './lib/socketio.js'

const settings = { ...watchful, TAILROOM_DATABASE_CONNS: '2' }
const test = (name, check) => it(name, { timeout: 60_000 }, check)

let postgres, instances, one, two, three
before(async () => {
  postgres = await startPostgres()
  instances = [one, two, three] = await Promise.all(['one', 'two', 'three'].map((name) => startInstance(postgres.dsn, name, settings)))
})
after(async () => {
  await Promise.all((instances ?? []).map((instance) => instance.stop()))
  await postgres?.stop()
})

const transports = { websocket: { transports: ['websocket'] }, polling: { transports: ['polling'] } }
const order = (orderId, more) => ({ orderId, branchId: 'b7', ...more })
const ids = (count, prefix = 'o') => Array.from({ length: count }, (_, i) => `${prefix}-${i}`)

/** An instance of a test's own. */
async function start(t, name, more) {
  const instance = await startInstance(postgres.dsn, name, { ...settings, ...more })
  t.after(() => instance.kill())
  return instance
}

async function newLine(t, url) {
  const line = await startLine(url)
  t.after(() => line.stop())
  return line
}

async function newBalancer(t, ...of) {
  const balancer = await startBalancer(...of.map(({ url }) => url))
  t.after(() => balancer.stop())
  return balancer
}

const polls = '/socket.io/?EIO=4&transport=polling'

/** Opens a connection at one instance, and closes it at another. Resolves to its sid, if that could be done. */
async function openAndClose({ url }, other) {
  const { sid } = JSON.parse((await (await fetch(url + polls)).text()).slice(1))
  const { ok } = await fetch(`${other.url}${polls}&sid=${sid}`, { method: 'POST', body: '1' })
  return ok && sid
}

/** What the sids of an instance's connections begin with. */
const ownerMark = async (instance) => (await openAndClose(instance, instance)).split('.')[0]

/** Resolves when each of two instances knows the other. */
const acquainted = (one, other) => Promise.all([eventually(() => openAndClose(one, other)), eventually(() => openAndClose(other, one))])

const recovered = ({ connects }) => connects.map((connect) => connect.recovered)

describe('Recovery over Socket.IO', { concurrency: 8 }, () => {
  for (const [name, transport] of Object.entries(transports)) {
    test(`${name}: the instance is killed`, async (t) => {
      const company = newCompany()
      const victim = await start(t, `victim-${name}`)
      const line = await newLine(t, victim.url)
      const page = follow(t, line.url, '/orders', { token: company.token(), ...transport })
      await page.live()
      await company.order(victim.url, 'o-1', 'o-2')
      await page.received(2)
      await victim.kill()
      await company.order(one.url, 'o-3', 'o-4')
      line.leadTo(two.url)
      await page.received(4)
      await company.order(one.url, 'o-5')
      await page.received(5)
      assert.deepEqual(page.orders, ['o-1', 'o-2', 'o-3', 'o-4', 'o-5'])
      assert.deepEqual(recovered(page), [false, true])
      assert.equal(page.connects[0].id, page.connects[1].id)
      assert.ok(page.ends[0].active)
    })

    test(`${name}: every instance is killed, and others come`, async (t) => {
      const company = newCompany()
      const old = await Promise.all(['a', 'b'].map((letter) => start(t, `old-${name}-${letter}`)))
      const balancer = await newBalancer(t, ...old)
      const pages = [1, 2, 3].map(() => follow(t, balancer.url, '/orders', { token: company.token(), ...transport }))
      await Promise.all(pages.map((page) => page.live()))
      await company.order(old[0].url, 'o-1')
      await Promise.all(pages.map((page) => page.received(1)))
      await Promise.all(old.map((instance) => instance.kill()))
      await company.order(one.url, ...ids(50, 'away')) // the restaurants go on
      const fresh = await Promise.all(['a', 'b'].map((letter) => start(t, `new-${name}-${letter}`)))
      balancer.leadTo(...fresh.map(({ url }) => url))
      await Promise.all(pages.map((page) => page.received(51)))
      await company.order(fresh[1].url, 'o-2')
      await Promise.all(pages.map((page) => page.received(52)))
      for (const page of pages) {
        assert.deepEqual(page.orders, ['o-1', ...ids(50, 'away'), 'o-2'])
        assert.deepEqual(recovered(page), [false, true])
      }
    })

    test(`${name}: the line goes dead and nobody is told`, async (t) => {
      const company = newCompany()
      const line = await newLine(t, one.url)
      // Node's XMLHttpRequest may try to connect over what is dead, and would give that 20 seconds.
      const page = follow(t, line.url, '/orders', { token: company.token(), timeout: 1_000, ...transport })
      page.socket.on('disconnect', () => line.leadTo(two.url))
      await page.live()
      await company.order(two.url, 'o-1')
      await page.received(1)
      line.freeze()
      await company.order(two.url, 'o-2', 'o-3') // one writes them into the dead line
      await page.lost()
      assert.equal(page.ends[0].reason, 'ping timeout')
      await page.received(3)
      assert.deepEqual(page.orders, ['o-1', 'o-2', 'o-3'])
      assert.deepEqual(recovered(page), [false, true])
    })

    test(`${name}: no event ever came before the cut`, async (t) => {
      const company = newCompany()
      const line = await newLine(t, one.url)
      // The offset that the client adds is taken away: pid is all there is.
      const page = follow(t, line.url, '/orders', { auth: (give) => give({ token: company.token(), offset: undefined }), ...transport })
      await page.connected()
      line.cut()
      await company.order(one.url, 'o-1', 'o-2')
      await page.lost()
      line.leadTo(two.url)
      await page.received(2)
      assert.deepEqual(page.orders, ['o-1', 'o-2'])
      assert.deepEqual(recovered(page), [false, true])
    })

    test(`${name}: a long silence while the log goes on`, async (t) => {
      const [company, busy] = [newCompany(), newCompany()]
      const line = await newLine(t, one.url)
      const page = follow(t, line.url, '/orders', { token: company.token(), ...transport })
      await page.live()
      const [{ cursor }] = (await busy.order(two.url, ...ids(100))).slice(-1)
      const position = (offset) => Number(offset.split('-')[1])
      // What is others' moves its place, too.
      await page.until(() => page.news.some(([type, offset]) => type === '$o' && position(offset) >= position(cursor)))
      line.cut()
      await company.order(two.url, 'o-1')
      await page.lost()
      line.leadTo(two.url)
      await page.received(1)
      assert.deepEqual(page.orders, ['o-1'])
      assert.deepEqual(recovered(page), [false, true])
    })

    test(`${name}: an offset of somebody else's`, async (t) => {
      const company = newCompany()
      const line = await newLine(t, one.url)
      await company.order(one.url, 'from before it came')
      const offsets = ['p1-0', 'hello', '', 'p', 'p1-', 'p99999999999999999999-1', '1-1', 'x'.repeat(5000), 7, { a: 1 }, ['p1-1'], null]
      let offset
      const page = follow(t, line.url, '/orders', { auth: (give) => give({ token: company.token(), offset }), ...transport })
      await page.connected()
      for (const [i, other] of offsets.entries()) {
        offset = other
        line.cut()
        await company.order(two.url, `o-${i}`)
        await page.lost(i + 1)
        line.leadTo([two, one][i % 2].url)
        await page.connected(i + 2)
        await page.until(() => page.orders.includes(`o-${i}`))
      }
      // Each begins at the pid's place again: nothing is missed, and what was received comes again.
      assert.deepEqual([...new Set(page.orders)], ids(offsets.length))
      assert.deepEqual(page.refusals.filter(({ data }) => data), [])
      assert.ok(recovered(page).slice(1).every(Boolean))
    })

    test(`${name}: a pid of somebody else's`, async (t) => {
      const [company, others] = [newCompany(), newCompany()]
      const pids = []
      const auth = (token) => (give) => give({ token })
      for (const token of [others.token(), company.token({ sub: 'another' })]) {
        const page = follow(t, one.url, '/orders', { auth: auth(token), ...transport })
        await page.connected()
        pids.push(page.socket._pid)
      }
      assert.ok(pids.every((pid) => typeof pid === 'string' && pid.length > 20))
      const [{ cursor }] = await company.order(one.url, 'o-1')
      for (const pid of [...pids, `${pids[1].slice(0, -4)}AAAA`, 'hello', '', 7, null]) {
        const page = follow(t, two.url, '/orders', { auth: { token: company.token(), pid }, ...transport })
        await page.live()
        assert.deepEqual(page.events, [], 'as if there were none: it begins now')
        assert.notEqual(page.socket._pid, pid)
        const [, offset] = page.news.find(([type]) => type === '$live')
        assert.ok(Number(offset.split('-')[1]) >= Number(cursor.split('-')[1]))
      }
    })

    test(`${name}: a program that saved the offset comes back after its restart`, async (t) => {
      const company = newCompany()
      let saved
      const open = (url) => {
        const page = follow(t, url, '/orders', { auth: (give) => give({ token: company.token(), offset: saved }), ...transport })
        page.socket.on('$o', (offset) => { saved = offset })
        page.socket.on('$live', (offset) => { saved = offset })
        return page
      }
      const before = open(one.url)
      await before.live()
      await company.order(two.url, 'o-1')
      await before.received(1)
      const [{ cursor }] = (await company.history(one.url)).slice(-1)
      await before.until(() => Number(saved.split('-')[1]) >= Number(cursor.split('-')[1]))
      before.socket.disconnect()
      const missed = ids(700, 'missed') // more than a page of the log
      await company.order(two.url, ...missed)
      const after = open(two.url)
      await after.received(missed.length)
      await company.order(one.url, 'o-2')
      await after.received(missed.length + 1)
      assert.deepEqual(after.orders, [...missed, 'o-2'])
      assert.deepEqual(recovered(after), [false])
    })

    test(`${name}: a desktop app that restarts with nothing`, async (t) => {
      const company = newCompany()
      const token = company.token({ sub: 'till-1', userRole: 'desktop_app' })
      const at = (cursor) => eventually(async () => {
        const { consumers } = await (await fetch(`${one.url}/v1/consumers`, { headers: { Authorization: `Bearer ${token}` } })).json()
        return consumers.some((consumer) => consumer.name === 'till-1:/orders' && Number(consumer.cursor.split('-')[1]) >= Number(cursor.split('-')[1]))
      })
      const before = follow(t, one.url, '/orders', { token, ...transport })
      await before.live()
      const [, { cursor }] = await company.order(two.url, 'o-1', 'o-2')
      await before.received(2)
      await at(cursor)
      before.socket.disconnect()
      await company.order(two.url, 'o-3', 'o-4')
      const after = follow(t, two.url, '/orders', { token, ...transport })
      await after.received(2)
      await company.order(one.url, 'o-5')
      await after.received(3)
      assert.deepEqual(after.orders, ['o-3', 'o-4', 'o-5'])

      // Two of one name do not take turns: the newer stays.
      const newer = follow(t, three.url, '/orders', { token, ...transport })
      assert.deepEqual(await after.until(() => after.ends[0]), { reason: 'io server disconnect', active: false })
      assert.equal((await after.heard('$goaway'))[0].reason, 'replaced')
      await newer.live()
      await company.order(one.url, 'o-6')
      await newer.until(() => newer.orders.includes('o-6'))
      assert.deepEqual(newer.ends, [])
    })
  }

  test('polling only: each request goes to the next instance', async (t) => {
    const company = newCompany()
    const balancer = await newBalancer(t, ...instances)
    const manager = new Manager(balancer.url, { ...quick, transports: ['polling'] })
    const auth = { token: company.token() }
    const page = watch(t, manager.socket('/orders', { auth }))
    const alerts = watch(t, manager.socket('/availability', { auth }))
    await Promise.all([page.live(), alerts.live()])
    for (let i = 0; i < 30; i++) {
      const { ok } = await page.socket.emitWithAck('newOrder', order(`o-${i}`))
      assert.ok(ok)
    }
    await Promise.all(instances.map(({ url }, i) => company.order(url, ...ids(30, `from-${i}`))))
    await company.publish(two.url, { namespace: '/availability', type: 'newAlert', data: { message: 'done' } })
    await Promise.all([page.received(120), alerts.received(1)])
    assert.deepEqual(page.orders, (await company.history(one.url)).map(({ data }) => data.orderId).filter(Boolean))
    const met = new Map(instances.map(({ url }) => [url, 0]))
    for (const { sid, instance } of balancer.seen) if (sid) met.set(instance, met.get(instance) + 1)
    assert.ok([...met.values()].every((count) => count > 10), 'strangers were asked most of the time')
    assert.equal(balancer.seen.filter(({ sid }) => !sid).length, 1, 'one handshake')
    assert.deepEqual([page.ends, page.connects.length], [[], 1])
  })

  test('polling only: the owner is killed, and the rest know the sid no more', async (t) => {
    const company = newCompany()
    const victim = await start(t, 'owner')
    const balancer = await newBalancer(t, victim)
    const page = follow(t, balancer.url, '/orders', { token: company.token(), transports: ['polling'] })
    await page.live()
    balancer.leadTo(one.url, two.url)
    await company.order(one.url, 'o-1')
    await page.received(1) // relayed
    await eventually(() => balancer.seen.filter(({ sid, instance }) => sid && instance !== victim.url).length > 2)
    await victim.kill()
    await company.order(two.url, 'o-2')
    await page.received(2)
    await company.order(one.url, 'o-3')
    await page.received(3)
    assert.deepEqual(page.orders, ['o-1', 'o-2', 'o-3'])
    assert.deepEqual(recovered(page), [false, true])
  })

  test('polling only: a proxy loses an answer, and asks another instance again', async (t) => {
    const company = newCompany()
    const balancer = await newBalancer(t, one, two)
    const page = follow(t, balancer.url, '/orders', { token: company.token(), transports: ['polling'] })
    await page.live()
    await company.order(one.url, 'o-1')
    await page.received(1)
    const lost = balancer.lose('o-2')
    await company.order(one.url, 'o-2')
    await lost
    await company.order(one.url, 'o-3')
    await page.until(() => page.orders.includes('o-3'))
    assert.deepEqual(page.orders, ['o-1', 'o-2', 'o-3'])
    assert.deepEqual(recovered(page), [false, true])
  })

  test('the upgrade goes to another instance than the owner', async (t) => {
    const company = newCompany()
    const balancer = await newBalancer(t, ...instances)
    const marks = new Map(await Promise.all(instances.map(async (instance) => [await ownerMark(instance), instance.url])))
    assert.equal(marks.size, 3)
    const line = await newLine(t, balancer.url)
    // So many that hardly all meet their owners by chance.
    const pages = Array.from({ length: 12 }, () => follow(t, line.url, '/orders', { token: company.token() }))
    const upgraded = () => eventually(() => pages.every(({ socket }) => socket.connected && socket.io.engine.transport.name === 'websocket'))
    const publishing = company.order(one.url, ...ids(200)) // while they upgrade
    await upgraded()
    await publishing
    await company.order(two.url, 'last')
    await Promise.all(pages.map((page) => page.until(() => page.orders.includes('last'))))
    const strangers = balancer.seen.filter(({ kind, sid, instance }) => kind === 'upgrade' && marks.get(sid.split('.')[0]) !== instance)
    assert.ok(strangers.length > 0)
    for (const page of pages) {
      const all = [...ids(200), 'last']
      assert.deepEqual(page.orders, all.slice(all.length - page.orders.length), 'in order, none twice, up to the last')
      assert.deepEqual(page.ends, [])
    }
    line.cut()
    await company.order(two.url, 'missed')
    await Promise.all(pages.map((page) => page.lost()))
    line.leadTo(balancer.url)
    await Promise.all(pages.map((page) => page.until(() => page.orders.at(-1) === 'missed')))
    await upgraded()
    assert.ok(pages.every((page) => recovered(page).join() === 'false,true'))
  })

  test('a proxy that refuses WebSockets: it stays with polling', async (t) => {
    const company = newCompany()
    const proxy = await startProxy(one.url)
    t.after(() => proxy.stop())
    const page = follow(t, proxy.url, '/orders', { token: company.token() })
    await page.live()
    await eventually(() => proxy.seen.upgrades === 1)
    await company.order(two.url, ...ids(20))
    await page.received(20)
    assert.equal((await page.socket.emitWithAck('newOrder', order('mine'))).ok, true)
    await page.received(21)
    assert.deepEqual(page.orders, [...ids(20), 'mine'])
    assert.equal(page.socket.io.engine.transport.name, 'polling')
    assert.deepEqual(page.ends, [])
  })

  test('a predecessor that is half open is taken over, here and elsewhere', async (t) => {
    // Their pings take too long to tell anybody anything.
    const patient = { TAILROOM_SOCKETIO_PING_INTERVAL: '1m', TAILROOM_SOCKETIO_PING_TIMEOUT: '1m' }
    const [here, there] = await Promise.all(['here', 'there'].map((name) => start(t, name, patient)))
    await acquainted(here, there)
    const sessions = async ({ url }) => (await (await fetch(`${url}/readyz`)).json()).sessions
    const company = newCompany()
    const parties = await Promise.all(Object.values(transports).map(async (transport) => {
      const line = await newLine(t, here.url)
      return { line, page: follow(t, line.url, '/orders', { token: company.token(), ...transport }) }
    }))
    await Promise.all(parties.map(({ page }) => page.live()))
    await eventually(async () => await sessions(here) === 2)

    const moves = [there, there, here, here]
    for (const [i, instance] of moves.entries()) {
      for (const { line } of parties) line.abandon()
      await company.order(one.url, `o-${i}`)
      await Promise.all(parties.map(({ page }) => page.lost(i + 1)))
      for (const { line } of parties) line.leadTo(instance.url)
      await Promise.all(parties.map(({ page }) => page.connected(i + 2)))
      await Promise.all(parties.map(({ page }) => page.until(() => page.orders.includes(`o-${i}`))))
      const counts = instance === here ? [2, 0] : [0, 2]
      await eventually(async () => (await Promise.all([here, there].map(sessions))).join() === counts.join())
    }
    for (const { page } of parties) {
      assert.deepEqual([...new Set(page.orders)], ids(moves.length))
      assert.deepEqual(recovered(page), [false, true, true, true, true])
      assert.equal(new Set(page.connects.map(({ id }) => id)).size, 1, 'one socket, wherever it is')
    }
  })

  test('polling only: what was still to be read when the connection was closed comes once', async (t) => {
    const company = newCompany()
    const own = await start(t, 'closing')
    let holding, held, release
    const isHeld = new Promise((resolve) => { held = resolve })
    const released = new Promise((resolve) => { release = resolve })
    const proxy = await startProxy(own.url, async (request, response, pass) => {
      if (holding && request.method === 'GET') {
        held()
        await released
      }
      pass()
    })
    t.after(() => proxy.stop())
    const tokens = [company.token(), company.token({ exp: Math.ceil(Date.now() / 1000) + 2 })]
    const page = follow(t, proxy.url, '/orders', { auth: (give) => give({ token: tokens.length > 1 ? tokens.pop() : tokens[0] }), transports: ['polling'] })
    await page.live()
    holding = true
    await isHeld // the one that waits now ends with a ping at the latest
    await company.order(own.url, 'o-1', 'o-2')
    await eventually(async () => (await (await fetch(`${own.url}/readyz`)).json()).sessions === 0) // the token has expired
    holding = false
    release()
    await page.connected(2)
    await company.order(own.url, 'o-3')
    await page.until(() => page.orders.includes('o-3'))
    assert.deepEqual(page.orders.filter(Boolean), ['o-1', 'o-2', 'o-3'])
    assert.deepEqual(recovered(page), [false, true])
  })

  test('clients of four transports see one order', async (t) => {
    const company = newCompany()
    const balancer = await newBalancer(t, ...instances)
    const token = company.token()
    const polling = follow(t, balancer.url, '/orders', { token, transports: ['polling'] })
    const websocket = follow(t, two.url, '/orders', { token, transports: ['websocket'] })
    const [own, sse] = await Promise.all([followSocket(three.url, token, ['/orders']), followEvents(one.url, token, ['newOrder'])])
    t.after(() => own.stop())
    t.after(() => sse.stop())
    await Promise.all([polling.live(), websocket.live()])
    const emitting = Promise.all(ids(50, 'polling').map((id) => polling.socket.emitWithAck('newOrder', order(id))))
    await Promise.all(instances.map(({ url }, i) => company.order(url, ...ids(50, `from-${i}`))))
    await emitting
    await Promise.all([polling.received(200), websocket.received(200), own.inbox.until(200), sse.inbox.until(200)])
    const expected = (await company.history(one.url)).map(({ data }) => data.orderId)
    const envelopes = ({ inbox }) => inbox.received.map((envelope) => JSON.parse(envelope).data.orderId)
    assert.equal(expected.length, 200)
    for (const orders of [polling.orders, websocket.orders, envelopes(own), envelopes(sse)]) assert.deepEqual(orders, expected)
  })

  test('what cannot be served is not called recovered', async (t) => {
    const company = newCompany()
    await company.order(one.url, 'o-1')
    let offset
    const line = await newLine(t, one.url)
    const page = follow(t, line.url, '/orders', { auth: (give) => give({ token: company.token(), offset }), transports: ['websocket'] })
    await page.live()
    const [first] = page.connects
    offset = 'p1-999999999' // of a future that the log does not have
    line.cut()
    await page.lost()
    line.leadTo(two.url)
    const [reset] = await page.heard('$reset')
    assert.deepEqual(Object.keys(reset).sort(), ['oldest', 'reason', 'resume', 'snapshot'])
    await page.connected(2)
    assert.deepEqual(recovered(page), [false, false])
    assert.notEqual(page.connects[1].id, first.id)
    await page.live(2)
    await company.order(one.url, 'o-2')
    await page.received(1)
    assert.deepEqual(page.orders.at(-1), 'o-2')
  })
})
