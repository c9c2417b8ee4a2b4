"""Functions of one argument and losses, each written in every style in which people write those."""

# name: value of x as z, its derivative as z, and derivatives that are wrong
ACTIVATIONS = {
    "sigmoid": ("1 / (1 + np.exp(-z))", "1 / (1 + np.exp(-z)) * (1 - 1 / (1 + np.exp(-z)))",
                ("1 / (1 + np.exp(-z))", "z * (1 - z)")),
    "tanh": ("np.tanh(z)", "1 - np.tanh(z) ** 2", ("1 - np.tanh(z)", "1 - z ** 2")),
    "relu": ("np.maximum(z, 0)", "(z > 0) * 1.0", ("(z > 0.4) * 1.0", "np.ones_like(z)")),
    "leaky_relu": ("np.where(z > 0, z, 0.2 * z)", "np.where(z > 0, 1.0, 0.2)",
                   ("np.where(z > 0, 1.0, 0.0)", "np.where(z > 0, 0.2, 1.0)")),
    "elu": ("np.where(z > 0, z, 0.7 * (np.exp(z) - 1))", "np.where(z > 0, 1.0, 0.7 * np.exp(z))",
            ("np.where(z > 0, 1.0, np.exp(z))", "np.where(z > 0, 1.0, 0.7 * (np.exp(z) - 1))")),
    "softplus": ("np.log(1 + np.exp(z))", "1 / (1 + np.exp(-z))", ("1 / (1 + np.exp(z))", "np.log(1 + np.exp(-z))")),
    "swish": ("z / (1 + np.exp(-z))", "(1 + np.exp(-z) * (1 + z)) / (1 + np.exp(-z)) ** 2",
              ("1 / (1 + np.exp(-z))", "(1 + np.exp(-z)) / (1 + np.exp(-z)) ** 2")),
    "gelu": ("0.5 * z * (1 + np.tanh(0.8 * z))",
             "0.5 * (1 + np.tanh(0.8 * z)) + 0.4 * z * (1 - np.tanh(0.8 * z) ** 2)",
             ("0.5 * (1 + np.tanh(0.8 * z))", "0.5 * (1 + np.tanh(0.8 * z)) + 0.4 * z")),
    "softsign": ("z / (1 + np.abs(z))", "1 / (1 + np.abs(z)) ** 2", ("1 / (1 + np.abs(z))", "1 / (1 + z) ** 2")),
    "square": ("z ** 2", "2 * z", ("z", "2 * z ** 2")),
    "sine": ("np.sin(z)", "np.cos(z)", ("-np.cos(z)", "np.sin(z)")),
    "gaussian": ("np.exp(-z * z)", "-2 * z * np.exp(-z * z)", ("2 * z * np.exp(-z * z)", "-z * np.exp(-z * z)")),
}

STYLES = {
    "class": """
class {title}:
    def forward(self, z):
        self.z = z
        return {value}

    def backward(self, dy):
        z = self.z
        return dy * ({derivative})
""",
    "cached": """
def {name}_forward(z):
    return {value}, z


def {name}_backward(dout, cache):
    z = cache
    return dout * ({derivative})
""",
    "derivative": """
def {name}(z):
    return {value}


def {name}_prime(z):
    return {derivative}
""",
    "gradient": """
class {title}:
    def __call__(self, z):
        return {value}

    def gradient(self, z):
        return {derivative}
""",
    "attributes": """
class Activation{title}:
    def forward(self, inputs):
        self.inputs = z = inputs
        self.output = {value}

    def backward(self, dvalues):
        z = self.inputs
        self.dinputs = dvalues * ({derivative})
""",
    "passes": """
class {title}Layer:
    def forward_pass(self, X, training=True):
        self.layer_input = z = X
        return {value}

    def backward_pass(self, accum_grad):
        z = self.layer_input
        return accum_grad * ({derivative})
""",
}

# where the derivative may be meant by the function's value as well, z * (1 - z) is that of the sigmoid
BY_VALUE = ("derivative", "gradient")

# name: value of p and t, its derivative by p, and derivatives that are wrong
LOSSES = {
    "mse": ("np.mean((p - t) ** 2)", "2 * (p - t) / p.size", ("(p - t) / p.size", "2 * (t - p) / p.size")),
    "squared_loss": ("0.5 * np.sum((p - t) ** 2)", "p - t", ("2 * (p - t)", "t - p")),
    "mae": ("np.mean(np.abs(p - t))", "np.sign(p - t) / p.size", ("np.sign(p - t)", "np.abs(p - t) / p.size")),
    "log_cosh_loss": ("np.sum(np.log(np.cosh(p - t))) / len(p)", "np.tanh(p - t) / len(p)",
                      ("np.tanh(p - t) / p.size", "(p - t) / len(p)")),
    "bce": ("-np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))", "(p - t) / (p * (1 - p)) / p.size",
            ("(p - t) / p.size", "(t - p) / (p * (1 - p)) / p.size")),
    "poisson_loss": ("np.mean(p - t * np.log(p))", "(1 - t / p) / p.size", ("(1 - t * p) / p.size", "(1 - t / p)")),
}

LOSS_STYLES = {
    "kept": """
class {title}:
    def forward(self, p, t):
        self.p, self.t = p, t
        return {value}

    def backward(self):
        p, t = self.p, self.t
        return {derivative}
""",
    "given": """
class {title}:
    def forward(self, p, t):
        return {value}

    def backward(self, p, t):
        return {derivative}
""",
    "together": """
def {name}_loss(p, y_true):
    t = y_true
    loss = {value}
    dp = {derivative}
    return loss, dp
""",
    "gradient": """
class {title}Loss:
    def loss(self, y, y_pred):
        p, t = y_pred, y
        return {value}

    def gradient(self, y, y_pred):
        p, t = y_pred, y
        return {derivative}
""",
}


def blocks() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """By name, the source and its faults, as ``written.blocks``."""
    found = {}
    for functions, styles in ((ACTIVATIONS, STYLES), (LOSSES, LOSS_STYLES)):
        for name, (value, derivative, wrong) in functions.items():
            for style, text in styles.items():
                title = name.title().replace("_", "")
                mark = "# the derivative\n"
                source = mark + text.format(name=name, title=title, value=value, derivative=derivative)
                faults = [(source, mark + text.format(name=name, title=title, value=value, derivative=w))
                          for w in (wrong if style not in BY_VALUE else [wrong[0], f"3 * ({derivative})"])]
                found[f"{name}_{style}"] = source, faults
    return found
