#include "trainer/reference/kernels.h"

#include <string.h>

#define NORM_EPSILON ((real)1e-5)

/*
 * Sums run over eight lanes that are added in a fixed order: a compiler may use vectors for them without
 * being allowed to reorder anything, so every build gives the same bits.
 */
#define LANES 8

static real lanes_sum(const real lane[LANES])
{
	return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
	    ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static real dot(const real *a, const real *b, uint32_t n)
{
	real lane[LANES] = {0};
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (uint32_t k = 0; k < LANES; k++)
			lane[k] += a[i + k] * b[i + k];
	for (uint32_t k = 0; i < n; i++, k++)
		lane[k] += a[i] * b[i];
	return lanes_sum(lane);
}

void kernels_norm(const real *x, const real *gain, uint32_t m, uint32_t d, real *y, real *inverse)
{
	for (uint32_t i = 0; i < m; i++) {
		const real *row = x + (size_t)i * d;
		real *out = y + (size_t)i * d;
		real scale = 1 / REAL_SQRT(dot(row, row, d) / (real)d + NORM_EPSILON);

		inverse[i] = scale;
		for (uint32_t j = 0; j < d; j++)
			out[j] = row[j] * scale * gain[j];
	}
}

void kernels_norm_back(const struct norm_back *norm, uint32_t m, uint32_t d)
{
	const real *gain = norm->gain;

	for (uint32_t i = 0; i < m; i++) {
		const real *x = norm->x + (size_t)i * d;
		const real *dy = norm->dy + (size_t)i * d;
		real *dx = norm->dx + (size_t)i * d;
		real scale = norm->inverse[i];
		real lane[LANES] = {0};
		real mean;
		uint32_t j = 0;

		for (; j + LANES <= d; j += LANES)
			for (uint32_t k = 0; k < LANES; k++)
				lane[k] += dy[j + k] * gain[j + k] * x[j + k];
		for (uint32_t k = 0; j < d; j++, k++)
			lane[k] += dy[j] * gain[j] * x[j];
		/* d(1/rms)/dx_j = -x_j / (d · rms³) */
		mean = lanes_sum(lane) * scale * scale / (real)d;
		for (j = 0; j < d; j++) {
			norm->dgain[j] += dy[j] * x[j] * scale;
			dx[j] += scale * (dy[j] * gain[j] - x[j] * mean);
		}
	}
}

/* Softmax over the first `seen` of t numbers; the rest becomes 0. */
static void softmax_causal(real *row, uint32_t seen, uint32_t t)
{
	real largest = row[0], total = 0;

	for (uint32_t j = 1; j < seen; j++)
		largest = row[j] > largest ? row[j] : largest;
	for (uint32_t j = 0; j < seen; j++) {
		row[j] = REAL_EXP(row[j] - largest);
		total += row[j];
	}
	for (uint32_t j = 0; j < seen; j++)
		row[j] /= total;
	for (uint32_t j = seen; j < t; j++)
		row[j] = 0;
}

void kernels_attention(const struct attention_shape *shape, const real *qkv, real *weight, real *y)
{
	int t = (int)shape->context, d = (int)shape->width, c = d / (int)shape->heads;
	real scale = 1 / REAL_SQRT((real)c);

	for (uint32_t b = 0; b < shape->lines; b++)
		for (uint32_t h = 0; h < shape->heads; h++) {
			const real *q = qkv + (size_t)b * t * 3 * d + h * c; /* [t, c] in rows of 3d */
			const real *k = q + d, *v = q + 2 * d;
			real *w = weight + ((size_t)b * shape->heads + h) * t * t; /* [t, t] */
			real *out = y + (size_t)b * t * d + h * c; /* [t, c] in rows of d */

			/* w[t, t] = q[t, c] · k[t, c]ᵀ / √c */
			REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasTrans, t, t, c, scale, q, 3 * d,
			    k, 3 * d, 0, w, t);
			for (int i = 0; i < t; i++)
				softmax_causal(w + i * t, (uint32_t)i + 1, (uint32_t)t);
			/* out[t, c] = w[t, t] · v[t, c] */
			REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasNoTrans, t, c, t, 1, w, t, v,
			    3 * d, 0, out, d);
		}
}

void kernels_attention_back(const struct attention_shape *shape, const struct attention_back *back)
{
	int t = (int)shape->context, d = (int)shape->width, c = d / (int)shape->heads;
	real scale = 1 / REAL_SQRT((real)c);
	real *ds = back->scratch; /* [t, t] */

	for (uint32_t b = 0; b < shape->lines; b++)
		for (uint32_t h = 0; h < shape->heads; h++) {
			size_t at = (size_t)b * t * 3 * d + h * c;
			const real *q = back->qkv + at, *k = q + d, *v = q + 2 * d;
			real *dq = back->dqkv + at, *dk = dq + d, *dv = dq + 2 * d;
			const real *w = back->weight + ((size_t)b * shape->heads + h) * t * t;
			const real *dout = back->dy + (size_t)b * t * d + h * c; /* [t, c] */

			/* dv[t, c] = w[t, t]ᵀ · dout[t, c] */
			REAL_GEMM(CblasRowMajor, CblasTrans, CblasNoTrans, t, c, t, 1, w, t, dout,
			    d, 0, dv, 3 * d);
			/* dw[t, t] = dout[t, c] · v[t, c]ᵀ */
			REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasTrans, t, t, c, 1, dout, d, v,
			    3 * d, 0, ds, t);
			/* Through the softmax: ds = w ∘ (dw - Σ_j w dw), 0 above the diagonal as w is. */
			for (int i = 0; i < t; i++) {
				real sum = dot(w + i * t, ds + i * t, (uint32_t)i + 1);

				for (int j = 0; j < t; j++)
					ds[i * t + j] = w[i * t + j] * (ds[i * t + j] - sum);
			}
			/* dq[t, c] = ds[t, t] · k[t, c] / √c */
			REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasNoTrans, t, c, t, scale, ds, t,
			    k, 3 * d, 0, dq, 3 * d);
			/* dk[t, c] = ds[t, t]ᵀ · q[t, c] / √c */
			REAL_GEMM(CblasRowMajor, CblasTrans, CblasNoTrans, t, c, t, scale, ds, t, q,
			    3 * d, 0, dk, 3 * d);
		}
}

void kernels_bend(const real *x, size_t n, real *y)
{
	for (size_t i = 0; i < n; i++) {
		/* Not x > 0 ? x : 0, which would turn a NaN into a zero and hide it. */
		real positive = x[i] < 0 ? 0 : x[i];

		y[i] = positive * positive;
	}
}

void kernels_bend_back(const real *x, size_t n, real *dy)
{
	for (size_t i = 0; i < n; i++)
		dy[i] *= 2 * (x[i] < 0 ? 0 : x[i]);
}

double kernels_loss(const real *logits, const uint8_t *targets, uint32_t m, uint32_t v, real *dlogits)
{
	double loss = 0;

	if (dlogits != NULL)
		memset(dlogits, 0, sizeof(*dlogits) * m * v);
	for (uint32_t i = 0; i < m; i++) {
		const real *row = logits + (size_t)i * v;
		real largest = row[0], total = 0;

		if (targets[i] == KERNELS_NO_TARGET)
			continue;
		for (uint32_t j = 1; j < v; j++)
			largest = row[j] > largest ? row[j] : largest;
		for (uint32_t j = 0; j < v; j++)
			total += REAL_EXP(row[j] - largest);
		loss += log((double)total) + (double)(largest - row[targets[i]]);
		if (dlogits == NULL)
			continue;
		for (uint32_t j = 0; j < v; j++)
			dlogits[(size_t)i * v + j] = REAL_EXP(row[j] - largest) / total;
		dlogits[(size_t)i * v + targets[i]] -= 1;
	}
	return loss;
}
