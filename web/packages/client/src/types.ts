// A catalogue as types, and what follows from it. The generator of
// @tailroom/types writes catalogues; the default one is in default-catalog.ts.
import type { Draft, Subscription, TailroomEvent } from './protocol.js'

/** What a catalogue says of an event type. */
export interface EventType {
  data: object
  schemaVersion: number
  /** The type that answers it. */
  reply?: string
}

/** Namespaces, in them event types. */
export type CatalogShape<C> = { [N in keyof C]: { [T in keyof C[N]]: EventType } }

export type NamespaceOf<C> = keyof C & string

/** The names of a catalogue's types, of all namespaces. */
export type TypeOf<C> = { [N in NamespaceOf<C>]: keyof C[N] & string }[NamespaceOf<C>]

type DataOf<T> = T extends { data: infer Data } ? Data : never

/** The event of a type; of the namespaces that have it, if there are several. */
export type EventOf<C, Type extends string = TypeOf<C>> = {
  [N in NamespaceOf<C>]: { [T in keyof C[N] & Type & string]: TailroomEvent<N, T, DataOf<C[N][T]>> }[keyof C[N] & Type & string]
}[NamespaceOf<C>]

/** What can be published. */
export type DraftOf<C> = {
  [N in NamespaceOf<C>]: { [T in keyof C[N] & string]: Draft<N, T, DataOf<C[N][T]>> }[keyof C[N] & string]
}[NamespaceOf<C>]

/** The types that are answered. */
export type RequestType<C, N extends NamespaceOf<C>> = {
  [T in keyof C[N] & string]: C[N][T] extends { reply: string } ? T : never
}[keyof C[N] & string]

/** The event that answers a type. */
export type ReplyOf<C, N extends NamespaceOf<C>, T extends keyof C[N]> =
  C[N][T] extends { reply: infer Reply extends keyof C[N] & string } ? TailroomEvent<N, Reply, DataOf<C[N][Reply]>> : never

export type SubscriptionOf<C> = Subscription<NamespaceOf<C>>
