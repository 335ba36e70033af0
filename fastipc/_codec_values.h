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
    VALUE_SEEN = 'r', /* a str or bytes of this message once more, by its number, two bytes */
};

/* Containers up to here: their length is one byte. Against pickle, a put and get of 250 takes
 * 0.5 times as long with int members, 0.7 with str, 0.4 with the items of a dict. */
#define CONTAINER_MAX 255

/* Set in the first tag: containers stand in each other, or VALUE_SEEN somewhere. */
#define VALUE_IS_DEEP 0x80

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
