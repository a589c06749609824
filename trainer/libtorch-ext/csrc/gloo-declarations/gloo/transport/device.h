// Replacement for gloo's header of the same name. ../context.h contains the declarations.
#pragma once

#include <gloo/context.h>
