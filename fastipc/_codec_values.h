/* _codec_values.h - how values are written: one tag byte before each; lengths and integers
 * are little-endian as the machine has them: both sides run on the same machine. */
#ifndef FASTIPC_CODEC_VALUES_H
#define FASTIPC_CODEC_VALUES_H

enum {
    VALUE_NONE = 'N',
    VALUE_TRUE = 'T',
    VALUE_FALSE = 'F',
    VALUE_INT8 = 'b',
    VALUE_INT32 = 'i',
    VALUE_INT64 = 'q',
    VALUE_FLOAT = 'd',
    VALUE_STR8 = 's',
    VALUE_STR32 = 'S',
    VALUE_BYTES8 = 'y',
    VALUE_BYTES32 = 'Y',
    VALUE_TUPLE = '(',
    VALUE_LIST = '[',
    VALUE_DICT = '{',
    VALUE_SEEN = 'r',   /* a str or bytes of this message once more, by its number, two bytes */
    VALUE_OBJECT = '@', /* an instance, see below */
    VALUE_OBJECT_LIKE = 'a',
};

/* An instance of an ordinary class: VALUE_OBJECT; the number of its attributes, one byte; the
 * number of bytes that the names take, two bytes; the names of the module, of the class (its
 * __qualname__) and of each attribute, all ASCII and each behind its length, one byte; then the
 * values. Of the next one with the same names in a message: VALUE_OBJECT_LIKE; the number of the
 * VALUE_OBJECT that has them, one byte; then the values. The names are no str in the sense of
 * VALUE_SEEN: pickle interns those of attributes, so that they are other objects than any value.
 * An instance counts as a container. */
#define OBJECT_FIXED 4
#define OBJECT_HEADER_MAX 1024
#define HEADERS_MAX 16

/* Containers up to here: their length is one byte. Against pickle, a put and get of 250 takes
 * 0.5 times as long with int members, 0.7 with str, 0.4 with the items of a dict. */
#define CONTAINER_MAX 255

/* Set in the first tag: containers stand in each other, or VALUE_SEEN somewhere. */
#define VALUE_IS_DEEP 0x80

/* Set there beside it: there are instances, so that the decoder looks for their classes, and may
 * run what belongs to them. */
#define VALUE_HAS_OBJECTS 0x04

/* Of one message: how many str and bytes are told apart, how many containers, and how many
 * of these stand in each other. What has more is for pickle. */
#define SEEN_MAX 510
#define NESTED_MAX 64
#define DEPTH_MAX 8

/* The deliberate break that proves the fuzzer of the codec (tests/fuzz): leaves the check of a
 * length out. Never defined in a build for users. */
#ifndef FASTIPC_BREAK_CODED_LENGTH
#define FASTIPC_BREAK_CODED_LENGTH 0
#endif

#endif
