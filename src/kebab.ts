/** A setting's key as its flag and YAML key have it: `groupSize` -> `group-size`. */
export function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
