const label = (key: string) => key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

/** A number for people: whole numbers in full, others with four significant digits. */
export function formatNumber(value: number): string {
  if (Number.isInteger(value)) return String(value);
  const magnitude = Math.abs(value);
  return magnitude !== 0 && (magnitude < 1e-3 || magnitude >= 1e6) ? value.toExponential(2) : value.toPrecision(4);
}

function formatValue(value: unknown): string | undefined {
  if (typeof value === 'number') return formatNumber(value);
  if (typeof value === 'string' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value) && value.every((item) => typeof item === 'string' || typeof item === 'number')) {
    return value.join(', ');
  }
  return undefined;
}

function flatten(value: object, prefix: string): [string, string][] {
  return Object.entries(value).flatMap(([key, item]): [string, string][] => {
    const name = prefix === '' ? label(key) : `${prefix} ${label(key)}`;
    const text = formatValue(item);
    if (text !== undefined) return [[name, text]];
    return typeof item === 'object' && item !== null && !Array.isArray(item) ? flatten(item, name) : [];
  });
}

/** The plain values of a result, a line each, nested names joined: for people; scripts read the JSON. */
export function formatSummary(result: object): string {
  const rows = flatten(result, '');
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`).join('\n');
}
