// Stands in for gloo's header of this name, see ../context.h, which declares what is needed of it.
#pragma once

#include <gloo/context.h>
