/* A bounded page of text: see sheet.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/evidence/sheet.h"

/* Kept free below every limit, so that the note about the cut always fits. */
static const char cut_note[] = "[cut: this part reached its size limit]\n";

int sheet_init(struct sheet *s, size_t size)
{
	*s = (struct sheet){.size = size, .limit = size};
	s->data = malloc(size);
	return s->data == NULL ? -ENOMEM : 0;
}

void sheet_fini(struct sheet *s)
{
	free(s->data);
	*s = (struct sheet){0};
}

static bool put(struct sheet *s, const char *bytes, size_t size)
{
	if (s->cut || size + sizeof(cut_note) > s->limit - s->used) {
		s->cut = true;
		return false;
	}
	memcpy(s->data + s->used, bytes, size);
	/* The length moves only after the bytes are there: a signal handler may look in between. */
	atomic_signal_fence(memory_order_seq_cst);
	s->used += size;
	return true;
}

void sheet_line(struct sheet *s, const char *format, ...)
{
	char line[1024];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (length < 0)
		return;
	if ((size_t)length >= sizeof(line)) {
		length = sizeof(line) - 1;
		line[length - 1] = '\n';
	}
	put(s, line, (size_t)length);
}

/* Length of the well-formed UTF-8 sequence at p, 0 when there is none; *rune_out is its code point. */
static size_t rune_length(const unsigned char *p, size_t size, uint32_t *rune_out)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = 4;
	uint32_t rune;

	if (p[0] < 0x80)
		length = 1;
	else if (p[0] < 0xe0)
		length = 2;
	else if (p[0] < 0xf0)
		length = 3;
	if ((p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4 || length > size)
		return 0;
	rune = length == 1 ? p[0] : p[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		rune = rune << 6 | (p[i] & 0x3f);
	}
	if (rune < smallest[length] || rune > 0x10ffff || (rune >= 0xd800 && rune <= 0xdfff))
		return 0;
	*rune_out = rune;
	return length;
}

/* Direction overrides can make a terminal show another text than the one that stands there. */
static bool rune_is_harmless(uint32_t rune)
{
	if (rune < 0x20)
		return rune == '\n' || rune == '\t';
	if (rune >= 0x7f && rune < 0xa0)
		return false;
	return !(rune >= 0x202a && rune <= 0x202e) && !(rune >= 0x2066 && rune <= 0x2069);
}

/* Takes one character off the front of bytes; writes it, or its escape, to out (at most 16 bytes). */
static size_t take(const unsigned char *bytes, size_t size, char out[16], size_t *out_size)
{
	static const char digits[] = "0123456789abcdef";
	uint32_t rune = 0;
	size_t length = rune_length(bytes, size, &rune);

	if (length > 0 && rune_is_harmless(rune)) {
		memcpy(out, bytes, length);
		*out_size = length;
		return length;
	}
	if (length == 0)
		length = 1;
	for (size_t i = 0; i < length; i++) {
		out[4 * i] = '\\';
		out[4 * i + 1] = 'x';
		out[4 * i + 2] = digits[bytes[i] >> 4];
		out[4 * i + 3] = digits[bytes[i] & 15];
	}
	*out_size = 4 * length;
	return length;
}

void sheet_safe(struct sheet *s, const char *bytes, size_t size)
{
	const unsigned char *p = (const unsigned char *)bytes;
	char out[16];
	size_t out_size;

	while (size > 0) {
		size_t taken = take(p, size, out, &out_size);
		if (!put(s, out, out_size))
			return;
		p += taken;
		size -= taken;
	}
}

void sheet_escape(char *out, size_t out_size, const char *bytes, size_t size)
{
	const unsigned char *p = (const unsigned char *)bytes;
	char one[16];
	size_t used = 0, one_size;

	while (size > 0) {
		size_t taken = take(p, size, one, &one_size);
		if (used + one_size >= out_size)
			break;
		/* These are for one line each. */
		memcpy(out + used, one[0] == '\n' || one[0] == '\t' ? " " : one, one_size);
		used += one_size;
		p += taken;
		size -= taken;
	}
	out[used] = '\0';
}

void sheet_section(struct sheet *s, size_t section_size)
{
	s->limit = section_size < s->size - s->used ? s->used + section_size : s->size;
}

void sheet_section_end(struct sheet *s)
{
	if (s->cut && s->limit - s->used >= sizeof(cut_note)) {
		memcpy(s->data + s->used, cut_note, sizeof(cut_note) - 1);
		s->used += sizeof(cut_note) - 1;
	}
	s->cut = false;
	s->limit = s->size;
}
