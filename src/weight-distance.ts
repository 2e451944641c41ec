import { internal } from './errors.ts';
import { Value } from './runtime/index.ts';
import type { WeightValues } from './tree-model.ts';

/** L2 norm of the difference of two sets of weights, all tensors as one vector; float64 on the host. */
export function l2Distance(a: WeightValues, b: WeightValues): number {
  let squares = 0;
  for (const [name, value] of a) {
    const other = b.get(name);
    if (other === undefined || other.size !== value.size) throw internal(`no weight ${name} of ${value.size} elements`);
    squares += onHost(value, (x) => onHost(other, (y) => squaredDistance(x, y)));
  }
  return Math.sqrt(squares);
}

function squaredDistance(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum;
}

/** Shows a tensor's elements, through a copy where it lies on a device. */
function onHost<T>(value: Value, use: (data: Float32Array) => T): T {
  if (value.device.kind === 'cpu') return use(value.data as Float32Array);
  using copy = Value.empty(value.dtype, value.dims);
  copy.copyFrom(value);
  return use(copy.data as Float32Array);
}
