// An application publishes inside its own transactions, with node-postgres and
// in the manner of the libraries built on it. Its clients get what it committed,
// in order, and nothing else.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { followSocket } from './lib/clients.js'
import { startInstance, startPostgres } from './lib/process.js'
import { mint } from './lib/token.js'

let postgres, instance, connection, client
before(async () => {
  postgres = await startPostgres()
  instance = await startInstance(postgres.dsn, 'one')
  connection = new pg.Client({ connectionString: postgres.dsn })
  await connection.connect()
  await connection.query('CREATE TABLE public.orders (id text PRIMARY KEY, branch text NOT NULL)')
  client = await followSocket(instance.url, mint({ companyId: 'c1', branchId: 'b7', userRole: 'web' }), ['/orders'])
})
after(async () => {
  client?.stop()
  await connection?.end()
  await instance?.stop()
  await postgres?.stop()
})

/** Runs work in a transaction, as an application does. */
async function transaction(work, level = 'READ COMMITTED') {
  try {
    await connection.query(`BEGIN ISOLATION LEVEL ${level}`)
    const result = await work()
    await connection.query('COMMIT')
    return result
  } catch (error) {
    await connection.query('ROLLBACK')
    throw error
  }
}

/** How each library lets one send SQL: as text and a list, or as a tagged template. */
const styles = {
  // client.query(text, values); an object becomes JSON by itself.
  'node-postgres': async (order) => {
    await connection.query('INSERT INTO orders VALUES ($1, $2)', [order.orderId, order.branchId])
    const { rows } = await connection.query('SELECT tailroom.publish($1, $2, $3, $4) AS id', ['c1', '/orders', 'newOrder', order])
    return rows[0].id
  },
  // manager.query(text, values) resolves to the rows.
  TypeORM: async (order) => {
    const manager = { query: async (text, values) => (await connection.query(text, values)).rows }
    await manager.query('INSERT INTO orders VALUES ($1, $2)', [order.orderId, order.branchId])
    const [{ id }] = await manager.query(
      `SELECT tailroom.publish(tenant => $1, namespace => $2, type => $3, data => $4, rooms => $5, stream => $6) AS id`,
      ['c1', '/orders', 'newOrder', order, [`branch:${order.branchId}`], `order:${order.orderId}`])
    return id
  },
  // tx.$queryRaw`…` makes a parameter of each value; JSON goes as text with a cast.
  Prisma: async (order) => {
    const tx = {
      $queryRaw: async (strings, ...values) =>
        (await connection.query(strings.reduce((text, part, i) => `${text}$${i}${part}`), values)).rows,
    }
    await tx.$queryRaw`INSERT INTO orders VALUES (${order.orderId}, ${order.branchId})`
    const [{ id }] = await tx.$queryRaw`
      SELECT tailroom.publish(${'c1'}, ${'/orders'}, ${'newOrder'}, ${JSON.stringify(order)}::jsonb)::text AS id`
    return id
  },
}

for (const [style, publish] of Object.entries(styles)) {
  for (const level of ['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE']) {
    test(`${style}, ${level}`, { timeout: 60_000 }, async () => {
      const seen = client.inbox.received.length
      const order = (n) => ({ orderId: `${style}-${level}-${n}`, branchId: 'b7' })
      const failure = new Error('the kitchen is closed')
      await assert.rejects(transaction(async () => {
        await publish(order('lost'))
        throw failure
      }, level), failure)
      const ids = await transaction(async () => [
        await publish(order(1)), await publish(order(2)), await publish(order(3)),
      ], level)
      ids.push(await transaction(() => publish(order(4)), level))

      await client.inbox.until(seen + 4)
      const events = client.inbox.received.slice(seen).map((envelope) => JSON.parse(envelope))
      assert.deepEqual(events.map((event) => event.id), ids)
      assert.deepEqual(events.map((event) => event.data), [1, 2, 3, 4].map(order))
      for (const event of events) {
        assert.equal(event.stream, `order:${event.data.orderId}`)
        assert.deepEqual(event.rooms, ['branch:b7'])
      }
      const { rows } = await connection.query('SELECT count(*)::int FROM orders WHERE id LIKE $1', [`${style}-${level}-%`])
      assert.equal(rows[0].count, 4, 'what is published and what is done go together')
    })
  }
}

test('what is refused has a code, and ends only its transaction', { timeout: 60_000 }, async () => {
  const seen = client.inbox.received.length
  const publish = (...values) => transaction(() =>
    connection.query(`SELECT tailroom.publish(${values.map((_, i) => `$${i + 1}`)})`, values))
  for (const [values, code, message] of [
    [['c1', '/order', 'newOrder', {}], 'TR010', "unknown_namespace: there is no namespace '/order'"],
    [['c1', '/orders', 'newOrders', {}], 'TR011', "unknown_type: /orders has no type 'newOrders'"],
    [['c1', '/orders', 'newOrder', { orderId: '1', branchId: 'b7' }, ['kitchen:1']], 'TR012', /^invalid_room: 'kitchen:1' is no room/],
    [['c1', '/orders', 'newOrder', { orderId: '1' }], 'TR013', /^schema_violation: data.branchId must be a string or an integer/],
    [['c1', '/orders', 'newOrder', JSON.stringify('text')], 'TR013', 'schema_violation: data is a JSON object, not a JSON string'],
  ]) {
    await assert.rejects(publish(...values), { code, message, severity: 'ERROR' })
  }
  // A savepoint keeps the rest.
  await transaction(async () => {
    await styles['node-postgres']({ orderId: 'kept', branchId: 'b7' })
    await connection.query('SAVEPOINT s')
    await assert.rejects(connection.query(`SELECT tailroom.publish('c1', '/orders', 'nothing', '{}')`), { code: 'TR011' })
    await connection.query('ROLLBACK TO SAVEPOINT s')
  })
  await client.inbox.until(seen + 1)
  assert.equal(JSON.parse(client.inbox.received.at(-1)).data.orderId, 'kept')
})

test('append: the place at once, and conflicts', { timeout: 60_000 }, async () => {
  const seen = client.inbox.received.length
  const append = async (expected, ...numbers) => {
    const { rows } = await connection.query(
      `SELECT position::int, version::int FROM tailroom.append('c1', '/orders', 'newOrder', $1, expected_version => $2)`,
      [{ orderId: 'appended', branchId: 'b7', numbers }, expected])
    return rows[0]
  }
  const first = await transaction(() => append(0))
  assert.equal(first.version, 1)
  await assert.rejects(transaction(() => append(0)),
    { code: 'TR001', message: 'version_conflict: order:appended is at version 1, not 0', detail: '1' })
  await assert.rejects(transaction(() => append(1), 'SERIALIZABLE'), { code: 'TR003' })
  const [second, third] = await transaction(async () => [await append(1), await append(2)])
  assert.deepEqual([second.version, third.version], [2, 3])
  await client.inbox.until(seen + 3)
  assert.deepEqual(client.inbox.received.slice(seen).map((envelope) => JSON.parse(envelope).position),
    [first.position, second.position, third.position])
})

test('from the commit to the socket', { timeout: 60_000 }, async (t) => {
  for (const [how, setting] of [['notified', 'on'], ['polled', 'off']]) {
    const times = []
    for (let n = 0; n < 200; n++) {
      const arrival = client.inbox.until(client.inbox.received.length + 1)
      await connection.query('BEGIN')
      await connection.query(`SET LOCAL tailroom.outbox_notify = ${setting}`)
      await styles['node-postgres']({ orderId: `${how}-${n}`, branchId: 'b7' })
      const begin = performance.now()
      await connection.query('COMMIT')
      times.push((await arrival) - begin)
    }
    times.sort((a, b) => a - b)
    const at = (share) => times[Math.floor(share * times.length)].toFixed(1)
    t.diagnostic(`${how}: from COMMIT to receiving: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`)
    assert.ok(at(0.5) < 500, `${how}: it takes ${at(0.5)} ms`) // milliseconds, if the machine is free
  }
})
