/** An integer as a number, or as text where a number would not be exact: two ids must not become one. */
export const exactNumber = (value: bigint): number | string =>
  Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
