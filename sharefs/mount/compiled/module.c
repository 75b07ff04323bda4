/* The module sharefs.mount._engine: the loop that reads requests and answers some of them. */

#include "engine.h"

#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <structmember.h>
#include <unistd.h>

typedef Outcome (*Answer)(Engine *, const Request *);

static Answer answer_to(uint32_t opcode)
{
    switch (opcode) {
    case FUSE_LOOKUP: return answer_lookup;
    case FUSE_GETATTR: return answer_getattr;
    case FUSE_FORGET: return answer_forget;
    case FUSE_BATCH_FORGET: return answer_batch_forget;
    case FUSE_OPEN: return answer_open;
    case FUSE_READ: return answer_read;
    case FUSE_WRITE: return answer_write;
    case FUSE_RELEASE: return answer_release;
    case FUSE_READDIRPLUS: return answer_readdirplus;
    case FUSE_UNLINK: return answer_unlink;
    case FUSE_RENAME: return answer_rename;
    case FUSE_RENAME2: return answer_rename2;
    case FUSE_LINK: return answer_link;
    case FUSE_CREATE: return answer_create;
    case FUSE_SETATTR: return answer_setattr;
    case FUSE_GETXATTR: return answer_getxattr;
    default: return NULL;
    }
}

/* What this thread is answering with. */
static _Thread_local struct {
    Engine *engine;
    uint64_t turns; /* the engine's, when the request began */
    char *page;
} at_work;

void end_if_relieved(void)
{
    if (at_work.turns == at_work.engine->turns)
        return;
    /* The exception that relieve() has sent waits until this thread runs anything in Python, and
     * all others look for it as long. */
    PyObject *nowhere = PyDict_New();
    PyObject *none = nowhere == NULL ? NULL
                                     : PyRun_String("None", Py_eval_input, nowhere, nowhere);
    Py_XDECREF(none);
    PyErr_Clear();
    PyMem_Free(at_work.page);
    PyEval_SaveThread();
    pthread_exit(NULL);
}

/* DONE, or PASS: Python is to answer.  Never leaves an exception behind. */
static Outcome answer(Engine *engine, const char *octets, size_t size)
{
    struct fuse_in_header header;
    if (size < sizeof header)
        return PASS;
    memcpy(&header, octets, sizeof header);
    Answer how = answer_to(header.opcode);
    if (how == NULL)
        return PASS;
    int forgets = header.opcode == FUSE_FORGET || header.opcode == FUSE_BATCH_FORGET;
    Request request = {
        .opcode = header.opcode, .uid = header.uid, .gid = header.gid, .unique = header.unique,
        .number = header.nodeid, .caller = octets + offsetof(struct fuse_in_header, uid),
        .body = octets + sizeof header, .size = size - sizeof header,
    };
    PyObject *turn = PyObject_CallNoArgs(engine->acquire);
    if (turn == NULL) {
        PyErr_WriteUnraisable((PyObject *)engine);
        return PASS;
    }
    Py_DECREF(turn);
    at_work.engine = engine;
    at_work.turns = engine->turns;
    at_work.page = engine->page;
    engine->busy = 1;
    Outcome outcome = engine->stopping           ? DONE
        : engine->wary && !forgets ? PASS
                                   : how(engine, &request);
    end_if_relieved();
    engine->busy = 0;
    if (outcome == FAILED) { /* a bug, or no memory: Python may do better */
        PyErr_WriteUnraisable((PyObject *)engine);
        outcome = PASS;
    }
    turn = PyObject_CallNoArgs(engine->release);
    if (turn == NULL)
        PyErr_WriteUnraisable((PyObject *)engine);
    Py_XDECREF(turn);
    if (outcome == DONE)
        engine->answered++;
    return outcome;
}

static PyObject *engine_next(PyObject *self, PyObject *buffer)
{
    Engine *engine = (Engine *)self;
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0)
        return NULL;
    ssize_t size;
    do {
        Py_BEGIN_ALLOW_THREADS
        size = read(engine->fd, view.buf, (size_t)view.len);
        Py_END_ALLOW_THREADS
    } while (size > 0 && answer(engine, view.buf, (size_t)size) == DONE);
    int error = errno;
    PyBuffer_Release(&view);
    if (size < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromSsize_t(size);
}

/* Whether a thread of ours is still in the very system call that /proc/self/task/N/syscall told of.
 * Python's lock is kept, so that the thread cannot go on in Python meanwhile. */
static int is_still_in(const char *path, const char *call, size_t length)
{
    char now[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, now, sizeof now);
    close(fd);
    return size == (ssize_t)length && memcmp(now, call, length) == 0;
}

static PyObject *engine_relieve(PyObject *self, PyObject *args)
{
    Engine *engine = (Engine *)self;
    unsigned long thread;
    const char *path, *call;
    Py_ssize_t length;
    PyObject *exception;
    if (!PyArg_ParseTuple(args, "ksy#O:relieve", &thread, &path, &call, &length, &exception))
        return NULL;
    char *page = PyMem_Malloc(MAX_PAGES + sizeof(struct fuse_out_header));
    if (page == NULL)
        return PyErr_NoMemory();
    if (!is_still_in(path, call, (size_t)length)
        || PyThreadState_SetAsyncExc(thread, exception) != 1) {
        PyMem_Free(page);
        Py_RETURN_FALSE;
    }
    if (engine->busy) /* the kernel may be filling the old one for that thread still */
        engine->page = page;
    else
        PyMem_Free(page);
    engine->turns++;
    engine->busy = 0;
    Py_RETURN_TRUE;
}

static PyMethodDef engine_methods[] = {
    {"next", engine_next, METH_O,
     "next(buffer) -> size\n\nAnswers requests until there is one for the caller, in buffer."},
    {"allow", engine_allow, METH_VARARGS,
     "allow(directory, uid, until, acts, hidden, entry, attr, negative)\n\nSee leave.Leave."},
    {"know", engine_know, METH_VARARGS,
     "know(directory, name, node, uid, until, hidden, entry, attr)\n\nSee leave.Known."},
    {"make", engine_make, METH_VARARGS,
     "make(directory, above, uid, gid, facts, facts_above, owned)\n\nSee leave.Making."},
    {"relieve", engine_relieve, METH_VARARGS,
     "relieve(thread, path, call, exception) -> bool\n\nSee relief.Relief."},
    {"revoke", engine_revoke, METH_NOARGS, "revoke()\n\nNo leave counts any more."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef engine_members[] = {
    {"stopping", T_BOOL, offsetof(Engine, stopping), 0, "nothing is answered any more"},
    {"wary", T_BOOL, offsetof(Engine, wary), 0, "Python answers all but FORGET"},
    {"busy", T_BOOL, offsetof(Engine, busy), READONLY, "a request is answered, with the turn"},
    {"tell", T_OBJECT, offsetof(Engine, tell), 0, "see Lasting.tell(); None: nothing lasts"},
    {"long", T_DOUBLE, offsetof(Engine, long_time), 0, "seconds that attributes last"},
    {"soon", T_DOUBLE, offsetof(Engine, soon), 0, "seconds; asked again later, Python decides"},
    {"drops_set_id", T_BOOL, offsetof(Engine, drops_set_id), 0, "as the kernel said at the start"},
    {"answered", T_ULONGLONG, offsetof(Engine, answered), READONLY, "how many requests"},
    {NULL, 0, 0, 0, NULL},
};

static int engine_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *words[] = {"fd", "acquire", "release", "nodes", "by_identity", "slots", "callers",
        "handles", "make_node", "node_at", "forget", "drop", "hold", "lost", "make_handle",
        "demand_room", "add_handle", "close_handle", NULL};
    Engine *engine = (Engine *)self;
    PyTypeObject *d = &PyDict_Type;
    if (engine->page != NULL) {
        PyErr_SetString(PyExc_TypeError, "it is in use");
        return -1;
    }
    int fd;
    PyObject *o[17];
    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "iOOO!O!O!O!O!OOOOOOOOOO", words, &fd, &o[0], &o[1], d, &o[2], d,
            &o[3], d, &o[4], d, &o[5], d, &o[6], &o[7], &o[8], &o[9], &o[10], &o[11], &o[12],
            &o[13], &o[14], &o[15], &o[16]))
        return -1;
    engine->slips = PyMem_Calloc(SLIPS, sizeof(Slip));
    engine->known = PyMem_Calloc(KNOWN, sizeof(Known));
    engine->makings = PyMem_Calloc(MAKINGS, sizeof(Making));
    engine->missed = PyMem_Calloc(MISSED, sizeof(uint64_t));
    engine->page = PyMem_Malloc(MAX_PAGES + sizeof(struct fuse_out_header));
    if (engine->slips == NULL || engine->known == NULL || engine->makings == NULL
        || engine->missed == NULL || engine->page == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    engine->fd = fd;
    engine->acquire = Py_NewRef(o[0]);
    engine->release = Py_NewRef(o[1]);
    engine->nodes = Py_NewRef(o[2]);
    engine->by_identity = Py_NewRef(o[3]);
    engine->slots = Py_NewRef(o[4]);
    engine->callers = Py_NewRef(o[5]);
    engine->handles = Py_NewRef(o[6]);
    engine->make_node = Py_NewRef(o[7]);
    engine->node_at = Py_NewRef(o[8]);
    engine->forget = Py_NewRef(o[9]);
    engine->drop = Py_NewRef(o[10]);
    engine->hold = Py_NewRef(o[11]);
    engine->lost = Py_NewRef(o[12]);
    engine->make_handle = Py_NewRef(o[13]);
    engine->demand_room = Py_NewRef(o[14]);
    engine->add_handle = Py_NewRef(o[15]);
    engine->close_handle = Py_NewRef(o[16]);
    return 0;
}

#define EACH_OBJECT(DO)                                                                            \
    DO(acquire) DO(release) DO(nodes) DO(by_identity) DO(slots) DO(callers) DO(handles)            \
    DO(make_node) DO(node_at) DO(forget) DO(drop) DO(hold) DO(lost)                                \
    DO(tell) DO(make_handle) DO(demand_room) DO(add_handle) DO(close_handle)

static int engine_traverse(PyObject *self, visitproc visit, void *arg)
{
    Engine *engine = (Engine *)self;
#define VISIT(field) Py_VISIT(engine->field);
    EACH_OBJECT(VISIT)
    for (size_t i = 0; engine->slips != NULL && i < SLIPS; i++)
        Py_VISIT(engine->slips[i].directory);
    for (size_t i = 0; engine->known != NULL && i < KNOWN; i++) {
        Py_VISIT(engine->known[i].directory);
        Py_VISIT(engine->known[i].node);
    }
    for (size_t i = 0; engine->makings != NULL && i < MAKINGS; i++) {
        Py_VISIT(engine->makings[i].directory);
        Py_VISIT(engine->makings[i].above);
    }
    return 0;
}

static int engine_clear(PyObject *self)
{
    Engine *engine = (Engine *)self;
#define CLEAR(field) Py_CLEAR(engine->field);
    EACH_OBJECT(CLEAR)
    forget_leave(engine);
    return 0;
}

static void engine_dealloc(PyObject *self)
{
    Engine *engine = (Engine *)self;
    PyObject_GC_UnTrack(self);
    engine_clear(self);
    PyMem_Free(engine->slips);
    PyMem_Free(engine->known);
    PyMem_Free(engine->makings);
    PyMem_Free(engine->missed);
    PyMem_Free(engine->page);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject EngineType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sharefs.mount._engine.Engine",
    .tp_doc = "Answers what a tree has given leave for.  See sharefs.mount.leave.",
    .tp_basicsize = sizeof(Engine),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = engine_init,
    .tp_dealloc = engine_dealloc,
    .tp_traverse = engine_traverse,
    .tp_clear = engine_clear,
    .tp_methods = engine_methods,
    .tp_members = engine_members,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "sharefs.mount._engine", .m_size = -1,
    .m_doc = "The compiled part of the mount.  Without it everything works, at Python's speed.",
};

PyMODINIT_FUNC PyInit__engine(void)
{
    if (names_start() < 0 || PyType_Ready(&EngineType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddObjectRef(made, "Engine", (PyObject *)&EngineType) < 0)
        Py_CLEAR(made);
    return made;
}
