/* Write a dump of your own port of Gemma 3 in C99 or C++11, without any library.

     g3_recorder rec;
     g3_open(&rec, "dump", "270m");                                   the weights that the port runs
     g3_prompt(&rec, ids, 6);                                         token ids, int32_t
     g3_record(&rec, "text.layer.0.attn.q", "T N H", G3_F32, q, G3_SHAPE(6, 4, 256));
     if (g3_close(&rec)) fprintf(stderr, "%s\n", rec.error);          then: gemma3-ref compare dump

   A value is written when it is given: its memory may be used again. After an error all calls do nothing, and close
   says what it was and leaves no dump. Copy this file into your project, as it is or changed.
   SPDX-License-Identifier: Apache-2.0 */

#ifndef GEMMA3_RECORD_H
#define GEMMA3_RECORD_H

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <direct.h>
#define g3_mkdir(path) _mkdir(path)
#define g3_rmdir(path) _rmdir(path)
#else
#include <sys/stat.h>
#include <unistd.h>
#define g3_mkdir(path) mkdir(path, 0777)
#define g3_rmdir(path) rmdir(path)
#endif

enum { G3_HEADER = 65528, G3_PATH = 1024, G3_NAME = 256 }; /* bytes: of a file's header, which is written last */

typedef enum {
  G3_F64, G3_F32, G3_F16, G3_BF16, G3_I64, G3_I32, G3_I16, G3_I8, G3_U64, G3_U32, G3_U16, G3_U8, G3_BOOL
} g3_dtype;

static const struct { const char *name, *stored; int bytes; } g3_dtypes[] = {
  {"float64", "F64", 8}, {"float32", "F32", 4}, {"float16", "F16", 2}, {"bfloat16", "BF16", 2},
  {"int64", "I64", 8},   {"int32", "I32", 4},   {"int16", "I16", 2},   {"int8", "I8", 1},
  {"uint64", "U64", 8},  {"uint32", "U32", 4},  {"uint16", "U16", 2},  {"uint8", "U8", 1},
  {"bool", "BOOL", 1},
};

typedef struct {
  int64_t row, keys, real; /* keys in the cache, and how many of them are no padding */
  int32_t left_pads;
} g3_row;

typedef struct {
  char error[512]; /* empty, or one line */
  /* what is said of the run; may be set after g3_open. NULL of the first three: the format of most values */
  const char *compute_dtype, *matmul_activations, *kv_dtype, *rope_angle, *attention_impl;
  const char *weights, *weights_dtype, *producer, *version, *names;
  const char *adapter; /* the name of a LoRA adapter on the weights; NULL for none */
  int adapter_merged;  /* whether it was added to them before the model ran */
  /* what is said of a pass; may be set after g3_prompt, g3_step or g3_turn, and is read when the pass ends */
  int32_t left_pads;           /* how many of the ids are; a step keeps those of its prompt */
  const int32_t *positions;    /* as many as ids, -1 at padding; NULL counts on, from 0 behind left pads */
  const int32_t *image_blocks; /* start and stop of each image's soft tokens among the keys */
  int32_t images;              /* how many such pairs */
  const int32_t *kept;         /* start, stop and position now of the keys that are left: 0 17 0 of rejected tokens */
  int32_t kept_ranges;         /* how many such triples: 0 4 0 12 20 4 of a context shift are 2. Where the row
                                  has padding, positions are to be given beside them */
  const int32_t *slots;        /* as many as ids: where in the cache each key was written; NULL: one after the other */
  int64_t cache_slots;         /* how many slots there are: the length of the axis of keys; 0: as many as keys */
  /* the rest is the recorder's own */
  char folder[G3_PATH], part[G3_PATH + 32], header[G3_HEADER], pixels[64];
  FILE *json, *file;
  g3_row *rows;
  int row_count, row_at, row_said, version_2;
  int passes, files, tensors;
  int64_t tokens, cached, header_used, end, floats[4];
  char *seen; /* the names of this pass, each with its NUL */
  size_t seen_used, seen_size;
} g3_recorder;

/* Lengths of axes and their number, as the last two arguments of g3_record. In C++, name an array. */
#ifndef __cplusplus
#define G3_SHAPE(...) (const int64_t[]){__VA_ARGS__}, (int)(sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t))
#endif

static inline int g3_fail(g3_recorder *rec, const char *format, ...) {
  va_list given;
  char *c;
  if (rec->error[0]) return -1; /* the first one counts */
  va_start(given, format);
  vsnprintf(rec->error, sizeof rec->error, format, given);
  va_end(given);
  for (c = rec->error; *c; c++) if (iscntrl((unsigned char)*c)) *c = '?';
  return -1;
}

static inline int g3_path(g3_recorder *rec, char *out, const char *file) {
  int length = snprintf(out, G3_PATH + 128, "%s/%s", rec->part, file);
  return length < G3_PATH + 128 ? 0 : g3_fail(rec, "%s: wanted a shorter path", rec->folder);
}

/* Remove what was written so far; the dump never comes to be. */
static inline void g3_abandon(g3_recorder *rec) {
  char path[G3_PATH + 128], name[64];
  if (rec->file) fclose(rec->file);
  if (rec->json) fclose(rec->json);
  rec->file = rec->json = NULL;
  for (; rec->part[0] && rec->files >= 0; rec->files--) {
    snprintf(name, sizeof name, "tensors%05d.safetensors", rec->files);
    if (!g3_path(rec, path, name)) remove(path);
  }
  if (rec->part[0] && !g3_path(rec, path, "dump.json")) remove(path);
  if (rec->part[0]) g3_rmdir(rec->part);
  rec->part[0] = 0;
  free(rec->seen);
  free(rec->rows);
  rec->seen = NULL;
  rec->rows = NULL;
}

/* Begin a dump. folder: new or empty. weights: what --weights takes, such as 270m or a path. As all of these functions,
   it returns 0, or -1 with rec->error. */
static inline int g3_open(g3_recorder *rec, const char *folder, const char *weights) {
  const uint16_t one = 1;
  char path[G3_PATH + 128];
  size_t length;
  int number;
  memset(rec, 0, sizeof *rec);
  rec->weights = weights;
  rec->rope_angle = rec->attention_impl = rec->weights_dtype = rec->producer = rec->version = "not said";
  rec->names = "ref";
  if (*(const char *)&one != 1) return g3_fail(rec, "%s: wanted a little-endian machine", folder);
  length = strlen(folder);
  if (!length || length >= G3_PATH) return g3_fail(rec, "folder: wanted a path of 1 to %d bytes", G3_PATH - 1);
  while (length > 1 && folder[length - 1] == '/') length--;
  memcpy(rec->folder, folder, length);
  if (g3_rmdir(rec->folder) && errno != ENOENT) return g3_fail(rec, "%s: wanted an empty or new folder", folder);
  for (number = 0; ; number++) { /* what a killed process left may be there */
    snprintf(rec->part, sizeof rec->part, "%s.%d.part", rec->folder, number);
    if (!g3_mkdir(rec->part)) break;
    if (errno != EEXIST || number == 65535) {
      rec->part[0] = 0; /* there is nothing to remove */
      return g3_fail(rec, "%s: wanted a folder that can be made, got %s", folder, strerror(errno));
    }
  }
  if (g3_path(rec, path, "dump.json")) return -1;
  rec->json = fopen(path, "wb");
  if (!rec->json) return g3_fail(rec, "%s: wanted room to write, got %s", path, strerror(errno));
  fputs("{\"passes\": [", rec->json);
  return 0;
}

/* Write the header of the file that is open, into the room that was left for it; spaces behind it are of the format. */
static inline int g3_end_file(g3_recorder *rec) {
  unsigned char length[8] = {G3_HEADER & 255, G3_HEADER >> 8};
  int bad;
  if (!rec->file) return 0;
  rec->header[rec->header_used++] = '}';
  memset(rec->header + rec->header_used, ' ', (size_t)(G3_HEADER - rec->header_used));
  rewind(rec->file);
  bad = fwrite(length, 1, 8, rec->file) != 8 || fwrite(rec->header, 1, G3_HEADER, rec->file) != G3_HEADER;
  bad = fclose(rec->file) || bad;
  rec->file = NULL;
  return bad ? g3_fail(rec, "%s: wanted room to write, got %s", rec->folder, strerror(errno)) : 0;
}

static inline int g3_new_file(g3_recorder *rec) {
  char path[G3_PATH + 128], file[64];
  snprintf(file, sizeof file, "tensors%05d.safetensors", rec->files);
  if (g3_path(rec, path, file)) return -1;
  rec->file = fopen(path, "wb");
  if (!rec->file) return g3_fail(rec, "%s: wanted room to write, got %s", path, strerror(errno));
  rec->files++;
  rec->header_used = rec->end = 0;
  memset(rec->header, ' ', G3_HEADER);
  if (fwrite(rec->header, 1, 8, rec->file) == 8 && fwrite(rec->header, 1, G3_HEADER, rec->file) == G3_HEADER) return 0;
  return g3_fail(rec, "%s: wanted room to write, got %s", rec->folder, strerror(errno));
}

/* Append a tensor to the file that is open, or to a new one where the header has no room for it. */
static inline int g3_append(g3_recorder *rec, const char *name, g3_dtype dtype, const void *data,
                            const int64_t *shape, int axes, char *shape_text, size_t room) {
  int64_t bytes = g3_dtypes[dtype].bytes;
  size_t used = 0;
  int axis;
  shape_text[0] = 0;
  for (axis = 0; axis < axes; axis++) {
    if (shape[axis] < 0 || (shape[axis] && bytes > INT64_MAX / shape[axis]))
      return g3_fail(rec, "shape of %s: wanted lengths that memory can have, got %" PRId64, name, shape[axis]);
    bytes *= shape[axis];
    used += (size_t)snprintf(shape_text + used, room - used, "%s%" PRId64, axis ? ", " : "", shape[axis]);
  }
  if (bytes && !data) return g3_fail(rec, "%s: wanted values, got NULL", name);
  if (rec->file && rec->header_used + 2 * G3_NAME + (int64_t)used > G3_HEADER && g3_end_file(rec)) return -1;
  if (!rec->file && g3_new_file(rec)) return -1;
  rec->header_used += snprintf(
      rec->header + rec->header_used, (size_t)(G3_HEADER - rec->header_used),
      "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%s], \"data_offsets\": [%" PRId64 ", %" PRId64 "]}",
      rec->header_used ? ", " : "{", name, g3_dtypes[dtype].stored, shape_text, rec->end, rec->end + bytes);
  if (bytes && fwrite(data, 1, (size_t)bytes, rec->file) != (size_t)bytes)
    return g3_fail(rec, "%s: wanted room to write, got %s", rec->folder, strerror(errno));
  rec->end += bytes;
  return 0;
}

/* Tell whether a layout is one (0), or not (1), or not one of the shape (2). */
static inline int g3_misfit(const char *layout, const int64_t *shape, int axes, int64_t tokens) {
  int counts[128] = {0}, group = 0, has_t = strchr(layout, 'T') || strchr(layout, 't'), bad = 0;
  const char *c = layout;
  for (;;) {
    int merged = *c == '(', letters = 0, all_known = 1;
    int64_t rest = 1;
    if (merged) c++;
    for (;;) {
      int letter = toupper((unsigned char)*c);
      if (!letter || !strchr("BTSDNKGHFVPMCYX12", letter)) return 1;
      if (++counts[letter] > (letter == '1' ? 32 : letter == 'P' ? 2 : 1)) return 1;
      if (letter == 'T') rest *= tokens;
      else if (letter == '2' && has_t) rest *= 2;
      else if (letter != '1' && !(letter == 'B' && has_t)) all_known = 0; /* without T, B counts images */
      letters++;
      if (*++c != ' ' || !merged) break;
      c++;
    }
    if (merged && (letters < 2 || *c++ != ')')) return 1;
    if (group < axes && (all_known ? shape[group] != rest : shape[group] % rest != 0)) bad = 2;
    group++;
    if (!*c) break;
    if (*c++ != ' ') return 1;
  }
  return group == axes ? bad : 2;
}

static inline int g3_seen(g3_recorder *rec, const char *name) {
  size_t length = strlen(name) + 1, at;
  char *more;
  for (at = 0; at < rec->seen_used; at += strlen(rec->seen + at) + 1)
    if (!strcmp(rec->seen + at, name)) return g3_fail(rec, "value %s: wanted one in a pass, got a second one", name);
  if (rec->seen_used + length > rec->seen_size) {
    more = (char *)realloc(rec->seen, 2 * rec->seen_size + length);
    if (!more) return g3_fail(rec, "%s: wanted memory for a name", name);
    rec->seen = more;
    rec->seen_size = 2 * rec->seen_size + length;
  }
  memcpy(rec->seen + rec->seen_used, name, length);
  rec->seen_used += length;
  return 0;
}

/* Write a value now, as g3_record, and what is to be added to it: a residual stream that is kept as two. */
static inline int g3_record_sum(g3_recorder *rec, const char *name, const char *layout, g3_dtype dtype,
                                const void *data, const void *plus, const int64_t *shape, int axes) {
  char shape_text[512], more[G3_NAME + 8];
  const char *c;
  int misfit;
  if (rec->error[0]) return -1;
  if (!rec->passes) return g3_fail(rec, "%s: wanted g3_prompt before it", name);
  for (c = name; *c >= ' ' && *c <= '~' && *c != '"' && *c != '\\'; c++) {}
  if (*c || c == name || c - name >= G3_NAME || !strcmp(name, "__metadata__"))
    return g3_fail(rec, "name of a tap: wanted 1 to %d letters of ASCII, got %.300s", G3_NAME - 1, name);
  if ((int)dtype < 0 || dtype > G3_BOOL)
    return g3_fail(rec, "dtype of %s: wanted a g3_dtype, got %d", name, (int)dtype);
  misfit = axes < 0 || axes > 16 ? 2 : *layout ? g3_misfit(layout, shape, axes, rec->tokens) : 0;
  if (misfit == 1)
    return g3_fail(rec, "layout of %s: wanted axes such as T (N H) or B N T H, each once, got %.99s", name, layout);
  if (misfit)
    return g3_fail(rec, "shape of %s: wanted %s where T is %" PRId64 ", got %d axes, the first of %" PRId64, name,
                   layout, rec->tokens, axes, axes > 0 ? shape[0] : 0);
  snprintf(more, sizeof more, "%s.plus", name);
  if (plus && (dtype > G3_BF16 || strlen(more) >= G3_NAME))
    return g3_fail(rec, "plus of %.300s: wanted floats, and a name of at most %d letters", name, G3_NAME - 6);
  if (plus && rec->file && rec->header_used + 8 * G3_NAME > G3_HEADER && g3_end_file(rec)) return -1; /* one file */
  fprintf(rec->json, "%s\"%s\": {", rec->seen_used ? ",\n" : "", name);
  if (g3_seen(rec, name) || g3_append(rec, name, dtype, data, shape, axes, shape_text, sizeof shape_text)) return -1;
  if (plus && (g3_seen(rec, more) || g3_append(rec, more, dtype, plus, shape, axes, shape_text, sizeof shape_text)))
    return -1;
  if (plus) fprintf(rec->json, "\"plus\": \"%s\", ", more);
  if (plus) rec->version_2 = 1;
  fprintf(rec->json, "\"file\": \"tensors%05d.safetensors\", \"layout\": \"%s\", ", rec->files - 1, layout);
  fprintf(rec->json, "\"shape\": [%s], \"dtype\": \"%s\"}", shape_text, g3_dtypes[dtype].name);
  if (dtype <= G3_BF16) rec->floats[dtype]++;
  rec->tensors++;
  return 0;
}

/* Write a value now. layout: its axes as they lie, without gaps, merged ones in brackets, such as "T (N H)"; "" is the
   tap's own order. */
static inline int g3_record(g3_recorder *rec, const char *name, const char *layout, g3_dtype dtype,
                            const void *data, const int64_t *shape, int axes) {
  return g3_record_sum(rec, name, layout, dtype, data, NULL, shape, axes);
}

/* Write the pixels of this pass's images: shape [images, C, Y, X]. */
static inline int g3_pixels(g3_recorder *rec, g3_dtype dtype, const void *data, const int64_t *shape) {
  char shape_text[512];
  if (rec->error[0]) return -1;
  if (!rec->passes || rec->pixels[0] || dtype > G3_F16)
    return g3_fail(rec, "pixels: wanted floats, once in a pass");
  if (g3_end_file(rec)) return -1;
  if (g3_append(rec, "pixels", dtype, data, shape, 4, shape_text, sizeof shape_text)) return -1;
  snprintf(rec->pixels, sizeof rec->pixels, "tensors%05d.safetensors", rec->files - 1);
  return g3_end_file(rec);
}

/* Write which keys are left, and return how many; -1 with rec->error. */
static inline int64_t g3_end_kept(g3_recorder *rec, const g3_row *row, int holes) {
  int64_t keys = 0, last = 0;
  int i;
  if (row->left_pads) return g3_fail(rec, "kept: wanted a row without left pads, got %d of them", (int)row->left_pads);
  if (holes && !rec->positions) return g3_fail(rec, "positions: wanted beside kept, since the row has padding");
  fputs(", \"kept\": [", rec->json);
  for (i = 0; i < rec->kept_ranges; i++) {
    const int32_t *one = rec->kept + 3 * i;
    if (one[0] < last || one[1] <= one[0] || one[1] > row->keys || (!holes && one[2] != keys) || one[2] < 0)
      return g3_fail(rec, "kept: wanted start, stop, position within the %" PRId64 " keys that are there, positions "
                     "one after the other, got %d %d %d", row->keys, (int)one[0], (int)one[1], (int)one[2]);
    fprintf(rec->json, "%s[%d, %d, %d]", i ? ", " : "", (int)one[0], (int)one[1], (int)one[2]);
    keys += one[1] - one[0];
    last = one[1];
  }
  fputs("]", rec->json);
  rec->version_2 = 1;
  return keys;
}

static inline int g3_end_positions(g3_recorder *rec, g3_row *row, int64_t real, int unknown) {
  int64_t i, place, count = 0, left = rec->cached ? 0 : rec->left_pads;
  fputs(", \"positions\": [", rec->json);
  for (i = 0; i < rec->tokens; i++) {
    place = rec->positions ? rec->positions[i] : i < left ? -1 : real + i - left;
    if (place < -1 || (i < left && place >= 0))
      return g3_fail(rec, "positions: wanted -1 at left pads, else -1 or more, got %" PRId64, place);
    if (unknown && !count && place >= 0) real = place;
    count += place >= 0;
    rec->version_2 |= place < 0 && i >= left;
    fprintf(rec->json, "%s%" PRId64, i ? ", " : "", place);
  }
  if (!count) return g3_fail(rec, "positions: wanted a token that is no padding, got -1 at all of them");
  row->real = real + count;
  row->keys = rec->cached + rec->tokens;
  row->left_pads = rec->left_pads;
  return 0;
}

static inline int g3_end_slots(g3_recorder *rec) {
  int64_t i;
  if (rec->slots) fputs("], \"slots\": [", rec->json);
  for (i = 0; rec->slots && i < rec->tokens; i++) {
    if (rec->slots[i] < 0 || (rec->cache_slots && rec->slots[i] >= rec->cache_slots))
      return g3_fail(rec, "slots: wanted 0 or more, and less than cache_slots, got %d", (int)rec->slots[i]);
    fprintf(rec->json, "%s%d", i ? ", " : "", (int)rec->slots[i]);
  }
  fputs("]", rec->json);
  if (rec->cache_slots < 0) return g3_fail(rec, "cache_slots: wanted 1 or more, got %" PRId64, rec->cache_slots);
  if (rec->cache_slots) fprintf(rec->json, ", \"cache_slots\": %" PRId64, rec->cache_slots);
  if (rec->row_said) fprintf(rec->json, ", \"row\": %" PRId64, rec->rows[rec->row_at].row);
  rec->version_2 |= rec->slots || rec->cache_slots || rec->row_said;
  return 0;
}

static inline int g3_end_pass(g3_recorder *rec) {
  g3_row *row = rec->rows + rec->row_at;
  int64_t i, real, most;
  int holes;
  if (rec->error[0] || !rec->passes) return rec->error[0] ? -1 : 0;
  fputs("}", rec->json);
  real = row->real;
  holes = row->keys - row->left_pads != real;
  if (rec->kept) {
    rec->cached = g3_end_kept(rec, row, holes);
    if (rec->cached < 0) return -1;
    real = rec->cached;
  }
  most = rec->cached ? rec->cached : rec->tokens;
  if (rec->left_pads < 0 || (rec->left_pads && rec->left_pads >= most))
    return g3_fail(rec, "left_pads: wanted fewer than there are ids, got %d", (int)rec->left_pads);
  if (rec->cached && rec->left_pads != row->left_pads)
    return g3_fail(rec, "left_pads: wanted %d, as the row began with, got %d", (int)row->left_pads,
                   (int)rec->left_pads);
  fprintf(rec->json, ", \"cached\": %" PRId64 ", \"left_pads\": %d", rec->cached, (int)rec->left_pads);
  if (g3_end_positions(rec, row, real, rec->kept && holes)) return -1;
  if (g3_end_slots(rec)) return -1;
  fputs(", \"image_blocks\": [", rec->json);
  for (i = 0; i < rec->images; i++) {
    const int32_t *pair = rec->image_blocks + 2 * i;
    if (pair[0] < (i ? pair[-1] : 0) || pair[1] <= pair[0] || pair[1] > rec->cached + rec->tokens)
      return g3_fail(rec, "image_blocks: wanted start < stop, one behind the other, got %d to %d", (int)pair[0],
                     (int)pair[1]);
    fprintf(rec->json, "%s[%d, %d]", i ? ", " : "", (int)pair[0], (int)pair[1]);
  }
  fprintf(rec->json, rec->pixels[0] ? "], \"pixels\": \"%s\"}" : "], \"pixels\": null}", rec->pixels);
  rec->pixels[0] = 0;
  rec->seen_used = 0;
  return g3_end_file(rec);
}

/* Return where a row of the batch is, which may be new; -1 with rec->error. */
static inline int g3_find_row(g3_recorder *rec, int64_t row) {
  g3_row *more;
  int at;
  for (at = 0; at < rec->row_count; at++) if (rec->rows[at].row == row) return at;
  more = (g3_row *)realloc(rec->rows, sizeof *more * ((size_t)at + 1));
  if (!more) return g3_fail(rec, "row %" PRId64 ": wanted memory for it", row);
  rec->rows = more;
  memset(more + at, 0, sizeof *more);
  more[at].row = row;
  return rec->row_count++;
}

static inline int g3_begin(g3_recorder *rec, const int32_t *ids, int count, int64_t row, int said) {
  int i;
  if (g3_end_pass(rec)) return -1;
  if (count < 1) return g3_fail(rec, "ids: wanted at least one token, got %d", count);
  if (row < 0) return g3_fail(rec, "row: wanted 0 or more, got %" PRId64, row);
  rec->row_at = g3_find_row(rec, row);
  if (rec->row_at < 0) return -1;
  fputs(rec->passes++ ? ",\n{\"ids\": [" : "\n{\"ids\": [", rec->json);
  for (i = 0; i < count; i++) {
    if (ids[i] < 0) return g3_fail(rec, "ids: wanted integers from 0, got %d", (int)ids[i]);
    fprintf(rec->json, "%s%d", i ? ", " : "", (int)ids[i]);
  }
  fputs("], \"tensors\": {", rec->json);
  rec->left_pads = rec->rows[rec->row_at].left_pads;
  rec->positions = rec->image_blocks = rec->kept = rec->slots = NULL;
  rec->images = rec->kept_ranges = 0;
  rec->cache_slots = 0;
  rec->row_said = said;
  rec->cached = rec->rows[rec->row_at].keys;
  rec->tokens = count;
  return 0;
}

/* Begin a pass without cached keys: a prompt, a row of a batch. */
static inline int g3_prompt(g3_recorder *rec, const int32_t *ids, int count) {
  int64_t row = 0;
  int at;
  for (at = 0; at < rec->row_count; at++) if (rec->rows[at].row >= row) row = rec->rows[at].row + 1;
  return rec->error[0] ? -1 : g3_begin(rec, ids, count, row, 0);
}

/* Begin a pass that continues the one before: a decode step, a chunk. ids: those of this pass alone. */
static inline int g3_step(g3_recorder *rec, const int32_t *ids, int count) {
  if (rec->error[0]) return -1;
  if (!rec->passes) return g3_fail(rec, "g3_step: wanted g3_prompt before it");
  return g3_begin(rec, ids, count, rec->rows[rec->row_at].row, 0);
}

/* Begin a pass of a row of a batch whose rows take turns: it goes on where that row ended, or begins the row. */
static inline int g3_turn(g3_recorder *rec, int64_t row, const int32_t *ids, int count) {
  return rec->error[0] ? -1 : g3_begin(rec, ids, count, row, 1);
}

static inline void g3_text(g3_recorder *rec, const char *before, const char *text) {
  fprintf(rec->json, "%s\"", before);
  for (; *text; text++) {
    if ((unsigned char)*text < ' ') fprintf(rec->json, "\\u%04x", (unsigned)*text);
    else fprintf(rec->json, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
  }
  fputc('"', rec->json);
}

static inline void g3_end_json(g3_recorder *rec) {
  int most = G3_F32, i;
  const char *format;
  for (i = 0; i < 4; i++) if (rec->floats[i] > rec->floats[most]) most = i;
  format = g3_dtypes[most].name;
  fprintf(rec->json, "\n], \"format_version\": %d", rec->version_2 || rec->adapter ? 2 : 1);
  g3_text(rec, ", \"names\": ", rec->names);
  g3_text(rec, ",\n\"producer\": {\"name\": ", rec->producer);
  g3_text(rec, ", \"version\": ", rec->version);
  fputs("},\n\"model\": {\"config\": {}", rec->json);
  if (rec->adapter) g3_text(rec, ", \"adapter\": {\"name\": ", rec->adapter);
  if (rec->adapter) fprintf(rec->json, ", \"merged\": %s}", rec->adapter_merged ? "true" : "false");
  fputs(", \"weights\": {\"sha256\": null", rec->json);
  g3_text(rec, ", \"name\": ", rec->weights ? rec->weights : "not said");
  g3_text(rec, ", \"dtype\": ", rec->weights_dtype);
  g3_text(rec, "}},\n\"policy\": {\"compute_dtype\": ", rec->compute_dtype ? rec->compute_dtype : format);
  g3_text(rec, ", \"matmul_activations\": ", rec->matmul_activations ? rec->matmul_activations : format);
  g3_text(rec, ", \"kv_dtype\": ", rec->kv_dtype ? rec->kv_dtype : format);
  g3_text(rec, ", \"rope_angle\": ", rec->rope_angle);
  g3_text(rec, ", \"attention_impl\": ", rec->attention_impl);
  fputs("}}\n", rec->json);
}

/* Complete the dump and give the folder its name. 0, or -1 with rec->error; then nothing is left. */
static inline int g3_close(g3_recorder *rec) {
  int bad;
  if (!rec->json) g3_fail(rec, "%s: wanted a recorder that is open", rec->folder);
  else if (!rec->tensors) g3_fail(rec, "%s: wanted values to write, got none", rec->folder);
  if (!g3_end_pass(rec)) {
    g3_end_json(rec);
    bad = ferror(rec->json);
    bad = fclose(rec->json) || bad;
    rec->json = NULL;
    if (bad || rename(rec->part, rec->folder))
      g3_fail(rec, "%s: wanted a new folder with room to write, got %s", rec->folder, strerror(errno));
    else
      rec->part[0] = 0;
  }
  g3_abandon(rec);
  return rec->error[0] ? -1 : 0;
}

#endif
