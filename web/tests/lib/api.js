/** The parts of the HTTP interface that the tests use, with one token. */
export function api(token) {
  const headers = { Authorization: `Bearer ${token}` }

  async function answer(response) {
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`)
    return response
  }

  return {
    /** Publishes one event and returns its receipt. */
    async publish(url, event) {
      const body = JSON.stringify(event)
      const response = await fetch(`${url}/v1/events`, {
        method: 'POST', body, headers: { ...headers, 'Content-Type': 'application/json' },
      })
      return (await (await answer(response)).json()).events[0]
    },

    /** Publishes each event on its own, in one request, and returns their receipts. */
    async publishAll(url, events) {
      const body = events.map((event) => JSON.stringify(event)).join('\n')
      const response = await fetch(`${url}/v1/events`, {
        method: 'POST', body, headers: { ...headers, 'Content-Type': 'application/x-ndjson' },
      })
      const lines = (await (await answer(response)).text()).trimEnd().split('\n').map((line) => JSON.parse(line))
      const refused = lines.find((line) => line.status !== 201)
      if (refused) throw new Error(`refused: ${JSON.stringify(refused)}`)
      return lines.map((line) => line.events[0])
    },

    /** What the token may see of the log, an envelope for each event, as text. */
    async history(url) {
      const response = await fetch(`${url}/v1/events?limit=10000`, {
        headers: { ...headers, Accept: 'application/x-ndjson' },
      })
      return (await (await answer(response)).text()).split('\n').filter((line) => line !== '')
    },

    /** The names of all event types. */
    async types(url) {
      const catalog = await (await answer(await fetch(`${url}/v1/catalog`, { headers }))).json()
      return catalog.namespaces.flatMap((namespace) => namespace.events.map((event) => event.type))
    },
  }
}
