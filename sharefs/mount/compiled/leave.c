/* Slips: what the tree allows to be answered without asking it, until when, and for whom.
 *
 * Both tables are caches of fixed size: a new slip takes the place of an old one, and whoever finds
 * none asks Python. */

#include "engine.h"

static size_t slot_of(const void *address, size_t slots)
{
    uintptr_t number = (uintptr_t)address >> 4;
    return (number ^ number >> 12 ^ number >> 24) % slots;
}

static uint64_t hash_of(const void *address, const char *name, size_t length)
{
    uint64_t hash = 1469598103934665603u ^ (uintptr_t)address; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 1099511628211u;
    return hash ^ hash >> 32;
}

static size_t slot_of_name(const void *address, const char *name, size_t length)
{
    return hash_of(address, name, length) % KNOWN;
}

/* Whether a name that is not there was asked for already: a guess, about what is worth a mark. */
int missed_before(Engine *engine, PyObject *directory, const char *name, size_t length)
{
    uint64_t hash = hash_of(directory, name, length);
    uint64_t *slot = &engine->missed[hash % MISSED];
    if (*slot == hash)
        return 1;
    *slot = hash;
    return 0;
}

/* One that allows all of these acts to this uid now; NULL: ask. */
Slip *slip_for(Engine *engine, PyObject *directory, int64_t uid, unsigned acts)
{
    Slip *slip = &engine->slips[slot_of(directory, SLIPS)];
    if (slip->directory != directory || slip->epoch != engine->epoch
        || (slip->acts & acts) != acts || (slip->uid >= 0 && slip->uid != uid))
        return NULL;
    if (slip->until != INT64_MAX && now_ns() >= slip->until)
        return NULL;
    return slip;
}

Known *known_for(Engine *engine, PyObject *directory, int64_t uid, const char *name, size_t length)
{
    Known *known = &engine->known[slot_of_name(directory, name, length)];
    if (known->directory != directory || known->epoch != engine->epoch || known->uid != uid
        || known->length != length || memcmp(known->name, name, length) != 0
        || now_ns() >= known->until)
        return NULL;
    return known;
}

/* Whether a slip is about a name like this. */
int is_plain(const Slip *slip, const char *name, size_t length)
{
    if (name[0] == '.' && !(slip->acts & LEAVE_DOTS))
        return 0;
    return slip->acts & LEAVE_LOCKS || length < 5 || memcmp(name + length - 5, ".lock", 5) != 0;
}

Making *making_for(Engine *engine, PyObject *directory, uint32_t uid, uint32_t gid)
{
    Making *making = &engine->makings[slot_of(directory, MAKINGS)];
    if (making->directory != directory || making->epoch != engine->epoch || making->uid != uid
        || making->gid != gid)
        return NULL;
    return making;
}

int timeout_from(double seconds, Timeout *timeout)
{
    if (!(seconds >= 0 && seconds < 1e9)) {
        PyErr_SetString(PyExc_ValueError, "a timeout is a number of seconds");
        return -1;
    }
    timeout->seconds = (uint64_t)seconds;
    timeout->part = (uint32_t)((seconds - (double)timeout->seconds) * 1e9);
    return 0;
}

/* seconds: on time.monotonic()'s clock; beyond a few centuries it is for good. */
static int64_t moment_from(double seconds)
{
    if (!(seconds < 9e9))
        return INT64_MAX;
    return seconds < 0 ? 0 : (int64_t)(seconds * 1e9);
}

PyObject *engine_allow(PyObject *self, PyObject *args)
{
    Engine *engine = (Engine *)self;
    PyObject *directory;
    long long uid;
    double until, entry, attr;
    unsigned acts, hidden;
    if (!PyArg_ParseTuple(args, "OLdIIdd:allow", &directory, &uid, &until, &acts, &hidden,
                          &entry, &attr))
        return NULL;
    Slip made = {Py_NewRef(directory), engine->epoch, moment_from(until), uid, acts, hidden,
                 {0, 0}, {0, 0}};
    if (timeout_from(entry, &made.entry) < 0 || timeout_from(attr, &made.attr) < 0) {
        Py_DECREF(directory);
        return NULL;
    }
    Slip *slip = &engine->slips[slot_of(directory, SLIPS)];
    PyObject *before = slip->directory;
    *slip = made;
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

PyObject *engine_know(PyObject *self, PyObject *args)
{
    Engine *engine = (Engine *)self;
    PyObject *directory, *node;
    const char *name;
    Py_ssize_t length;
    long long uid;
    double until, entry, attr;
    unsigned hidden;
    if (!PyArg_ParseTuple(args, "Oy#OLdIdd:know", &directory, &name, &length, &node, &uid, &until,
                          &hidden, &entry, &attr))
        return NULL;
    if (length < 1 || length > MAX_NAME) {
        PyErr_SetString(PyExc_ValueError, "no name");
        return NULL;
    }
    Known *known = &engine->known[slot_of_name(directory, name, (size_t)length)];
    Timeout name_time, attr_time;
    if (timeout_from(entry, &name_time) < 0 || timeout_from(attr, &attr_time) < 0)
        return NULL;
    PyObject *before = known->directory, *node_before = known->node;
    known->directory = Py_NewRef(directory);
    known->node = Py_NewRef(node);
    known->epoch = engine->epoch;
    known->until = moment_from(until);
    known->uid = uid;
    known->hidden = hidden;
    known->entry = name_time;
    known->attr = attr_time;
    known->length = (size_t)length;
    memcpy(known->name, name, (size_t)length);
    Py_XDECREF(before);
    Py_XDECREF(node_before);
    Py_RETURN_NONE;
}

PyObject *engine_make(PyObject *self, PyObject *args)
{
    Engine *engine = (Engine *)self;
    PyObject *directory, *above;
    Making made = {.epoch = engine->epoch};
    uint32_t *here = made.directory_facts, *there = made.above_facts;
    if (!PyArg_ParseTuple(args, "OOII(III)(III)(III):make", &directory, &above, &made.uid,
                          &made.gid, &here[0], &here[1], &here[2], &there[0], &there[1],
                          &there[2], &made.owner, &made.group, &made.mode))
        return NULL;
    made.directory = Py_NewRef(directory);
    made.above = above == Py_None ? NULL : Py_NewRef(above);
    Making *making = &engine->makings[slot_of(directory, MAKINGS)];
    PyObject *before = making->directory, *above_before = making->above;
    *making = made;
    Py_XDECREF(before);
    Py_XDECREF(above_before);
    Py_RETURN_NONE;
}

PyObject *engine_revoke(PyObject *self, PyObject *none)
{
    (void)none;
    ((Engine *)self)->epoch++;
    Py_RETURN_NONE;
}

void forget_leave(Engine *engine)
{
    for (size_t i = 0; engine->slips != NULL && i < SLIPS; i++)
        Py_CLEAR(engine->slips[i].directory);
    for (size_t i = 0; engine->known != NULL && i < KNOWN; i++) {
        Py_CLEAR(engine->known[i].directory);
        Py_CLEAR(engine->known[i].node);
    }
    for (size_t i = 0; engine->makings != NULL && i < MAKINGS; i++) {
        Py_CLEAR(engine->makings[i].directory);
        Py_CLEAR(engine->makings[i].above);
    }
}
