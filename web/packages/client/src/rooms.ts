import type { Subscription, TailroomEvent } from './protocol.js'

/** The form with a colon; `branch_7` is an old way to write `branch:7`. */
function canonical(room: string): string {
  return room.replace(/^(company|branch)_/, '$1:')
}

/** Whether a subscription asks for the event. */
export function subscribed(subscribe: readonly Subscription[], event: TailroomEvent): boolean {
  return subscribe.some(({ namespace, rooms }) =>
    namespace === event.namespace && (rooms === undefined || rooms.some((room) => event.rooms.includes(canonical(room)))))
}

/** All rooms that are named, or none if one namespace wants all that there are. */
export function namedRooms(subscribe: readonly Subscription[]): string[] {
  if (subscribe.some(({ rooms }) => rooms === undefined)) return []
  return [...new Set(subscribe.flatMap(({ rooms = [] }) => rooms.map(canonical)))]
}
