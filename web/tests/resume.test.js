// A client loses its line, misses much that is not for it and some that is,
// and comes back to another instance. It holds exactly its events, once, in
// commit order, whatever transport it speaks.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { api } from './lib/api.js'
import { followEvents, followSocket } from './lib/clients.js'
import { startLine } from './lib/line.js'
import { startInstance, startPostgres } from './lib/process.js'
import { mint } from './lib/token.js'

const branchToken = mint({ companyId: 'c1', branchId: 'b7', userRole: 'web' })
const service = api(mint({ companyId: '*', userRole: 'service' }))
const branch = api(branchToken)
const namespaces = ['/orders', '/printing-ws', '/availability']

let postgres, one, other
before(async () => {
  postgres = await startPostgres()
  one = await startInstance(postgres.dsn, 'one')
  other = await startInstance(postgres.dsn, 'other')
})
after(async () => {
  await Promise.all([one?.stop(), other?.stop()])
  await postgres?.stop()
})

const clients = {
  eventsource: async (url) => followEvents(url, branchToken, await branch.types(one.url)),
  websocket: (url) => followSocket(url, branchToken, namespaces),
}

for (const [name, follow] of Object.entries(clients)) {
  test(`${name}: comes back to the other instance without a gap`, { timeout: 120_000 }, async (t) => {
    const line = await startLine(one.url)
    const past = (await branch.history(one.url)).length
    const client = await follow(line.url)
    t.after(async () => {
      client.stop()
      await line.stop()
    })

    await service.publish(one.url, order('c1', 'b7', `${name}-first`))
    await client.inbox.until(1)

    line.cut()
    await publishBusyEvening(name)
    line.leadTo(other.url)

    const last = await service.publish(one.url, order('c1', 'b7', `${name}-last`))
    await client.inbox.until(1 + missed + 1)
    assert.equal(JSON.parse(client.inbox.received.at(-1)).cursor, last.cursor)

    t.diagnostic(await measure(client.inbox, name))

    const positions = client.inbox.received.map((envelope) => JSON.parse(envelope).position)
    assert.ok(positions.every((position, i) => i === 0 || position > positions[i - 1]), 'in commit order, each once')
    assert.deepEqual(client.inbox.received, (await branch.history(one.url)).slice(past), 'byte for byte what the log has')
  })
}

const events = 10_000
const companies = 5
const branches = 20
const missed = events / (companies * branches) // those of c1's b7

/** Events of many companies, in requests that overlap, on both instances. */
async function publishBusyEvening(name) {
  const requests = Array.from({ length: 10 }, (_, request) =>
    Array.from({ length: events / 10 }, (_, i) =>
      something(`c${1 + (i % companies)}`, `b${7 + (Math.floor(i / companies) % branches)}`, `${name}-${request}-${i}`)))
  await Promise.all(requests.map((request, i) => service.publishAll([one.url, other.url][i % 2], request)))
}

function order(companyId, branchId, orderId) {
  return { companyId, namespace: '/orders', type: 'newOrder', data: { orderId, branchId } }
}

/** An event of one of the three namespaces. */
function something(companyId, branchId, id) {
  switch (id.length % 3) {
    case 0:
      return { companyId, namespace: '/printing-ws', type: 'printerStatusUpdate', data: { printerId: id, branchId, status: 'online' } }
    case 1:
      return { companyId, namespace: '/availability', type: 'availabilityUpdate', data: { productId: id, branchId, available: false } }
    default:
      return order(companyId, branchId, id)
  }
}

/** How long a published event takes to arrive from the other instance, with nothing else going on. */
async function measure(inbox, name) {
  const times = []
  for (let i = 0; i < 200; i++) {
    const arrival = inbox.until(inbox.received.length + 1)
    const begin = performance.now()
    await service.publish(one.url, order('c1', 'b7', `${name}-timed-${i}`))
    times.push((await arrival) - begin)
  }
  times.sort((a, b) => a - b)
  const at = (share) => times[Math.floor(share * times.length)].toFixed(1)
  return `${name}: from publishing to receiving on the other instance: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`
}
