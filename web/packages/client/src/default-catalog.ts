export interface Catalog {}
