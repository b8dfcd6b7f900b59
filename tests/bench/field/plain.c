/* A port of Gemma 3's text model as one writes it in C in an afternoon: plain loops in float32, one sum an output.

plain WEIGHTS IDS TAPS L D N K H F V W EVERY SCALE EPS BASE_LOCAL BASE_GLOBAL FACTOR

WEIGHTS: float32, embedding, then per layer the norms and matrices in the order of `layer`, then the final norm.
IDS: int32. TAPS: float32, in the order of the calls of `tap`. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *taps;
static float eps;

static void tap(const float *x, size_t n) { fwrite(x, sizeof *x, n, taps); }

static float *room(size_t n) { return calloc(n, sizeof(float)); }

static float *take(float **at, size_t n) { float *here = *at; *at += n; return here; }

static void matmul(float *y, const float *x, const float *w, int rows, int out, int in) {
    for (int t = 0; t < rows; t++)
        for (int o = 0; o < out; o++) {
            float sum = 0;
            for (int i = 0; i < in; i++) sum += x[(size_t)t * in + i] * w[(size_t)o * in + i];
            y[(size_t)t * out + o] = sum;
        }
}

static void norm(float *y, const float *x, const float *gain, int rows, int n) {
    for (int t = 0; t < rows; t++, x += n, y += n) {
        float sum = 0;
        for (int i = 0; i < n; i++) sum += x[i] * x[i];
        float inverse = 1 / sqrtf(sum / n + eps);
        for (int i = 0; i < n; i++) y[i] = x[i] * inverse * (1 + gain[i]);
    }
}

static void rope(float *y, const float *x, int T, int heads, int H, float base, float factor) {
    for (int t = 0; t < T; t++)
        for (int n = 0; n < heads; n++, x += H, y += H)
            for (int i = 0; i < H / 2; i++) {
                float angle = t / (factor * powf(base, 2.0f * i / H)), c = cosf(angle), s = sinf(angle);
                y[i] = x[i] * c - x[i + H / 2] * s;
                y[i + H / 2] = x[i + H / 2] * c + x[i] * s;
            }
}

static float gelu(float x) { return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))); }

static void attend(float *mix, float *scores, float *probs, const float *q, const float *k, const float *v, int T, int N,
                   int K, int H, int W, float scale) {
    for (int n = 0; n < N; n++)
        for (int t = 0; t < T; t++) {
            float *score = scores + ((size_t)n * T + t) * T, *p = probs + ((size_t)n * T + t) * T, most = -INFINITY, sum = 0;
            int kv = n / (N / K), first = W && t - W + 1 > 0 ? t - W + 1 : 0;
            for (int s = 0; s < T; s++) {
                float dot = 0;
                for (int h = 0; h < H; h++) dot += q[((size_t)t * N + n) * H + h] * k[((size_t)s * K + kv) * H + h];
                score[s] = dot * scale;
            }
            for (int s = first; s <= t; s++) most = fmaxf(most, score[s]);
            for (int s = first; s <= t; s++) sum += p[s] = expf(score[s] - most);
            for (int s = first; s <= t; s++) p[s] /= sum;
            for (int h = 0; h < H; h++) {
                float total = 0;
                for (int s = first; s <= t; s++) total += p[s] * v[((size_t)s * K + kv) * H + h];
                mix[((size_t)t * N + n) * H + h] = total;
            }
        }
}

int main(int argc, char **argv) {
    if (argc != 18) return 2;
    int L = atoi(argv[4]), D = atoi(argv[5]), N = atoi(argv[6]), K = atoi(argv[7]), H = atoi(argv[8]), F = atoi(argv[9]);
    int V = atoi(argv[10]), W = atoi(argv[11]), every = atoi(argv[12]), T, ids[4096];
    float scale = atof(argv[13]), bases[2] = {atof(argv[15]), atof(argv[16])}, factor = atof(argv[17]);
    eps = atof(argv[14]);
    FILE *file = fopen(argv[2], "rb");
    T = fread(ids, sizeof *ids, 4096, file);
    file = fopen(argv[1], "rb");
    fseek(file, 0, SEEK_END);
    size_t count = ftell(file) / sizeof(float);
    rewind(file);
    float *w = room(count);
    if (fread(w, sizeof *w, count, file) != count) return 3;
    taps = fopen(argv[3], "wb");
    float *table = take(&w, (size_t)V * D), *x = room(T * D), *a = room(T * D), *b = room(T * D);
    float *q = room(T * N * H), *k = room(T * K * H), *v = room(T * K * H), *q2 = room(T * N * H), *k2 = room(T * K * H);
    float *mix = room(T * N * H), *scores = room((size_t)N * T * T), *probs = room((size_t)N * T * T);
    float *gate = room((size_t)T * F), *up = room((size_t)T * F), *logits = room((size_t)T * V);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < D; i++) x[t * D + i] = table[(size_t)ids[t] * D + i] * sqrtf(D);
    tap(x, T * D);
    for (int l = 0; l < L; l++) {
        int global = (l + 1) % every == 0;
        norm(a, x, take(&w, D), T, D), tap(a, T * D);
        matmul(q, a, take(&w, (size_t)N * H * D), T, N * H, D), tap(q, T * N * H);
        matmul(k, a, take(&w, (size_t)K * H * D), T, K * H, D), tap(k, T * K * H);
        matmul(v, a, take(&w, (size_t)K * H * D), T, K * H, D), tap(v, T * K * H);
        norm(q2, q, take(&w, H), T * N, H), tap(q2, T * N * H);
        norm(k2, k, take(&w, H), T * K, H), tap(k2, T * K * H);
        rope(q, q2, T, N, H, bases[global], global ? factor : 1), tap(q, T * N * H);
        rope(k, k2, T, K, H, bases[global], global ? factor : 1), tap(k, T * K * H);
        memset(probs, 0, (size_t)N * T * T * sizeof *probs);
        attend(mix, scores, probs, q, k, v, T, N, K, H, global ? 0 : W, scale);
        tap(scores, (size_t)N * T * T), tap(probs, (size_t)N * T * T), tap(mix, T * N * H);
        matmul(a, mix, take(&w, (size_t)D * N * H), T, D, N * H), tap(a, T * D);
        norm(b, a, take(&w, D), T, D), tap(b, T * D);
        for (int i = 0; i < T * D; i++) x[i] += b[i];
        tap(x, T * D);
        norm(a, x, take(&w, D), T, D), tap(a, T * D);
        matmul(gate, a, take(&w, (size_t)F * D), T, F, D), tap(gate, (size_t)T * F);
        matmul(up, a, take(&w, (size_t)F * D), T, F, D), tap(up, (size_t)T * F);
        for (size_t i = 0; i < (size_t)T * F; i++) gate[i] = gelu(gate[i]) * up[i];
        tap(gate, (size_t)T * F);
        matmul(a, gate, take(&w, (size_t)D * F), T, D, F), tap(a, T * D);
        norm(b, a, take(&w, D), T, D), tap(b, T * D);
        for (int i = 0; i < T * D; i++) x[i] += b[i];
        tap(x, T * D);
    }
    norm(a, x, take(&w, D), T, D), tap(a, T * D);
    matmul(logits, a, table, T, V, D), tap(logits, (size_t)T * V);
    return fclose(taps) != 0;
}
