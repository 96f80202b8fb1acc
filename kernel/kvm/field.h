/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* field.h - accesses fields of KVM's private structures by the offsets of offsets.h. */
#ifndef NXK_FIELD_H
#define NXK_FIELD_H

#include "offsets.h"

/* The vendors' structures begin with the common one, which KVM's own build asserts. */
#define NXK_FIELD(object, name, type) (*(type *)((char *)(object) + NXK_##name))

#endif
