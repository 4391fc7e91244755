/* Made by tailroom-types from the catalogue of a Tailroom server. Do not edit: make it again. */

/**
 * Asks the desktop app of a branch to print a test page. Answered by printer:test:result.
 */
export interface PrinterTest {
  printerId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  /**
   * What to print on the page.
   */
  text?: string
}

/**
 * How a test print went. It carries the correlation id of its printer:test.
 */
export interface PrinterTestResult {
  printerId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  success?: boolean
  /**
   * What went wrong, for people.
   */
  message?: string
  /**
   * From the request's arrival at the app to the end of printing.
   */
  durationMs?: number
}

/**
 * The desktop app found a printer, or found out more about one.
 */
export interface PrinterDiscovered {
  printerId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  /**
   * What people call it.
   */
  name?: string
  connection?: string
  /**
   * Where the connection finds it, such as 192.168.1.50:9100.
   */
  address?: string
  model?: string
  status?: string
}

/**
 * A printer's status changed.
 */
export interface PrinterStatusUpdate {
  printerId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  status: string
  /**
   * What is wrong with it, for people.
   */
  message?: string | null
}

/**
 * A print job was queued, printed, failed, is tried again, or will not be printed any more.
 */
export interface PrintJobUpdate {
  jobId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  printerId?: string | number
  orderId?: string | number
  status: string
  /**
   * How many times printing was tried.
   */
  attempts?: number
  /**
   * Why the last attempt failed; null when it did not.
   */
  error?: string | null
}

/**
 * An order was placed. It is answered when it is accepted or rejected.
 */
export interface NewOrder {
  orderId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  status?:
    | 'pending'
    | 'accepted'
    | 'confirmed'
    | 'rejected'
    | 'preparing'
    | 'ready'
    | 'picked_up'
    | 'out_for_delivery'
    | 'delivered'
    | 'completed'
    | 'cancelled'
  /**
   * Where it came from.
   */
  channel?: string
  /**
   * ISO 4217.
   */
  currency?: string
  lines?: {
    sku?: string | number
    name?: string
    quantity?: number
    unitPrice?: number
    /**
     * What is added to the dish or left out.
     */
    modifiers?: {
      sku?: string | number
      name?: string
      quantity?: number
      unitPrice?: number
    }[]
    note?: string
  }[]
  subtotal?: number
  discount?: number
  deliveryFee?: number
  tax?: number
  tip?: number
  total?: number
  customer?: {
    customerId?: string | number
    name?: string
    phone?: string
    email?: string
    address?: string
  } | null
  table?: string | number
  note?: string
  placedAt?: string
  promisedAt?: string
}

/**
 * An order moved on: pending → accepted or rejected → preparing → ready → picked_up, or out_for_delivery → delivered. accepted and rejected answer the newOrder whose correlation id they carry.
 */
export interface OrderStatusUpdate {
  orderId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  status:
    | 'pending'
    | 'accepted'
    | 'confirmed'
    | 'rejected'
    | 'preparing'
    | 'ready'
    | 'picked_up'
    | 'out_for_delivery'
    | 'delivered'
    | 'completed'
    | 'cancelled'
  /**
   * Why, when it was rejected.
   */
  reason?: string | null
  promisedAt?: string
}

/**
 * An order will not be fulfilled, by wish of the customer or of the restaurant.
 */
export interface OrderCancelled {
  orderId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  status?: 'cancelled'
  reason?: string | null
  cancelledBy?: string
  refund?: number
}

/**
 * Where a driver is and with which order. It is on the driver's stream, so that positions do not count as versions of the order.
 */
export interface DriverUpdate {
  driverId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  orderId?: string | number | null
  name?: string
  status?: string
  location?: {
    latitude?: number
    longitude?: number
  } | null
  etaMinutes?: number | null
}

/**
 * A product can, or can no longer, be sold at a branch.
 */
export interface AvailabilityUpdate {
  productId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  name?: string
  available?: boolean
  /**
   * How much is left; null when it is not counted.
   */
  quantity?: number | null
  /**
   * When this ends by itself; null when it does not.
   */
  until?: string | null
  reason?: string | null
}

/**
 * Many products changed at once, at every branch unless an item names one. It goes to the company; a publisher who means one branch names its room. Without items it says that so much changed that clients should load the menu again. Products' streams are not written.
 */
export interface BulkAvailabilityUpdate {
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  items?: {
    productId: string | number
    /**
     * The branch whose room the event goes to.
     */
    branchId?: string | number
    name?: string
    available?: boolean
    /**
     * How much is left; null when it is not counted.
     */
    quantity?: number | null
    /**
     * When this ends by itself; null when it does not.
     */
    until?: string | null
    reason?: string | null
  }[]
}

/**
 * The stock of a product at a branch fell below its threshold, or recovered.
 */
export interface StockAlert {
  productId: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  name?: string
  quantity?: number
  threshold?: number
  unit?: string
  level?: string
}

/**
 * Something that people in the whole company should know. For the people of one branch the publisher names its room.
 */
export interface NewAlert {
  alertId?: string | number
  /**
   * The branch whose room the event goes to.
   */
  branchId?: string | number
  severity?: string
  title?: string
  message: string
  link?: string
}

/** The event types, by namespace. */
export interface Catalog {
  /** Printers of the branches, what they print, and the desktop app that drives them. */
  "/printing-ws": {
    /** Asks the desktop app of a branch to print a test page. Answered by printer:test:result. */
    "printer:test": { data: PrinterTest; schemaVersion: 1; reply: "printer:test:result" }
    /** How a test print went. It carries the correlation id of its printer:test. */
    "printer:test:result": { data: PrinterTestResult; schemaVersion: 1 }
    /** The desktop app found a printer, or found out more about one. */
    "printer:discovered": { data: PrinterDiscovered; schemaVersion: 1 }
    /** A printer's status changed. */
    "printerStatusUpdate": { data: PrinterStatusUpdate; schemaVersion: 1 }
    /** A print job was queued, printed, failed, is tried again, or will not be printed any more. */
    "printJobUpdate": { data: PrintJobUpdate; schemaVersion: 1 }
  }
  /** Orders, from the till or the web to the customer's door. */
  "/orders": {
    /** An order was placed. It is answered when it is accepted or rejected. */
    "newOrder": { data: NewOrder; schemaVersion: 1; reply: "orderStatusUpdate" }
    /** An order moved on: pending → accepted or rejected → preparing → ready → picked_up, or out_for_delivery → delivered. accepted and rejected answer the newOrder whose correlation id they carry. */
    "orderStatusUpdate": { data: OrderStatusUpdate; schemaVersion: 1 }
    /** An order will not be fulfilled, by wish of the customer or of the restaurant. */
    "orderCancelled": { data: OrderCancelled; schemaVersion: 1 }
    /** Where a driver is and with which order. It is on the driver's stream, so that positions do not count as versions of the order. */
    "driverUpdate": { data: DriverUpdate; schemaVersion: 1 }
  }
  /** What can be sold where, and what needs somebody's attention. */
  "/availability": {
    /** A product can, or can no longer, be sold at a branch. */
    "availabilityUpdate": { data: AvailabilityUpdate; schemaVersion: 1 }
    /** Many products changed at once, at every branch unless an item names one. It goes to the company; a publisher who means one branch names its room. Without items it says that so much changed that clients should load the menu again. Products' streams are not written. */
    "bulkAvailabilityUpdate": { data: BulkAvailabilityUpdate; schemaVersion: 1 }
    /** The stock of a product at a branch fell below its threshold, or recovered. */
    "stockAlert": { data: StockAlert; schemaVersion: 1 }
    /** Something that people in the whole company should know. For the people of one branch the publisher names its room. */
    "newAlert": { data: NewAlert; schemaVersion: 1 }
  }
}

/** What a namespace's Socket.IO socket hears: `Socket<ServerToClientEvents<'/orders'>, ClientToServerEvents<'/orders'>>`. */
export type ServerToClientEvents<N extends keyof Catalog> = {
  [T in keyof Catalog[N]]: Catalog[N][T] extends { data: infer Data } ? (data: Data) => void : never
}

/** What it says. The acknowledgement comes when the event is in the log, or when its reply is there if the type waits for it. */
export type ClientToServerEvents<N extends keyof Catalog> = {
  [T in keyof Catalog[N]]: Catalog[N][T] extends { data: infer Data } ? (data: Data, acknowledge?: (answer: unknown) => void) => void : never
}
